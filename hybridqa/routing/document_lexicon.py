"""What titles and texts say about change and about law: plain data, in log-odds.

To teach the classifier a new kind of document, add a line to `KINDS`; plurals are added by
themselves. Positive volatility: the truth changes; positive citation need: the source is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hybridqa.routing.phrases import words_of


class Kind(NamedTuple):
    """What the name of a kind of document says."""

    volatility: float
    citation: float


_MOVING = Kind(3.5, -0.8)
_NEWS = Kind(2.5, -0.8)
_PLAN = Kind(2.5, -0.3)
_LAW = Kind(-2.5, 3.0)
_RULES = Kind(-2.0, 2.0)
_LEARNED = Kind(-2.0, -0.3)
_TAUGHT = Kind(-1.8, -1.2)
_TOLD = Kind(-2.2, -1.2)
_REPORTED = Kind(-0.6, 1.5)

_KINDS: Sequence[tuple[Kind, str]] = (
    (
        _MOVING,
        """changelog, change log, changes, release note, release history, version history,
        change history, revision history, whats new, what's new, what is new, price list, pricing,
        price, rate card, rates, tariff, status, status page, system status, service status,
        incident, outage, on call, on call roster, on call schedule, roster, rota, duty roster,
        shift plan, shift schedule, staffing plan, menu, canteen menu, inventory, stock list,
        stock level, availability list, timetable, exchange rate, offer, special offer, promotion,
        leaderboard, known issue, waiting list, phone list, vacancy, job opening""",
    ),
    (
        _NEWS,
        """news, newsletter, press release, announcement, bulletin, weekly update,
        monthly update, weekly report, daily report, status report, status update, progress report,
        standup, stand up, minutes, meeting minutes, meeting notes, minutes of meeting, agenda,
        forecast, weather, market report, market update, digest, blog""",
    ),
    (
        _PLAN,
        """roadmap, road map, release schedule, release plan, release calendar, schedule,
        calendar, project plan, sprint, backlog, todo, to do, upcoming event, events, milestone,
        org chart, headcount, team directory, maintenance window""",
    ),
    (Kind(2.0, 0.0), "release #, version #, releases"),
    (Kind(0.8, 0.0), "draft, plan, dashboard, proposal, update, list of plugins, plugin directory"),
    (
        _LAW,
        """contract, agreement, supply agreement, service agreement, service level agreement, sla,
        nda, terms, terms and conditions, terms of service, terms of use, conditions, license,
        licence, licensing, eula, warranty, warranty terms, guarantee, privacy, privacy policy,
        privacy notice, privacy statement, data protection, data processing, gdpr, statute,
        regulation, directive, law, act, bylaw, ordinance, treaty, charter, constitution, judgment,
        ruling, liability, indemnity, insurance policy, deed, lease, copyright, patent, trademark,
        dmca, compliance, legal, disclaimer, consent form, subprocessor, cookie policy""",
    ),
    (
        _RULES,
        """policy, code of conduct, guideline, standard, procedure,
        standard operating procedure, sop, safety, safety data sheet, safety note, hazard,
        risk assessment,
        community standard, rule, certificate, certification, audit, returns, refund, leaflet,
        patient information, prescribing information, package insert, dosage, clinical guideline,
        protocol, travel and expense, safe harbor, supplier code""",
    ),
    (
        _LEARNED,
        """reference, api reference, api, specification, spec, rfc, datasheet, data sheet,
        technical data, glossary, dictionary, encyclopedia, thesis, dissertation, paper, article,
        abstract, proceedings, survey, textbook, lecture, theory, architecture, design document,
        appendix, schema, status code, error code, exit status, context menu, menu bar, event hook,
        release process, pricing model, change management""",
    ),
    (
        Kind(-2.0, 0.0),
        """manual, user manual, product manual, owner's manual, operating manual,
        operating instruction, instruction, service manual, handbook, employee handbook, staff
        handbook, user guide, installation guide, maintenance manual""",
    ),
    (
        _TAUGHT,
        """guide, tutorial, how to, howto, quickstart, quick start, getting started,
        introduction, overview, about, faq, frequently asked question, troubleshooting, example,
        cookbook, recipe, usage, readme, best practice, concept, explained, basics, contributing,
        training, course""",
    ),
    (
        _TOLD,
        """history, short history, biography, memoir, story, tale, novel, poem, essay, chapter,
        company history, obituary, legend""",
    ),
    (Kind(-0.5, 0.0), "archive, archived, superseded, obsolete, deprecated, retired"),
    (
        _REPORTED,
        """annual report, financial statement, financial report, quarterly report, 10 k,
        10 q, balance sheet, earnings, prospectus, tax, invoice, budget, accounts, filing,
        shareholder""",
    ),
)


def _plural(phrase: str) -> str:
    if phrase.endswith("y") and phrase[-2] not in "aeiou":
        return phrase[:-1] + "ies"
    return phrase + ("es" if phrase.endswith(("ch", "sh", "x")) else "s")


def _named_kinds() -> dict[str, Kind]:
    named: dict[str, Kind] = {}
    for kind, phrases in _KINDS:
        for phrase in phrases.split(","):
            name = " ".join(phrase.split())
            named[name] = kind
            if not name.endswith(("s", "#")):
                named.setdefault(_plural(name), kind)
    return named


KINDS: Mapping[str, Kind] = _named_kinds()
"""Kind by the words that name it in a title or file name."""

HEAD_ENDS = frozenset(
    words_of("for of between at in on with by from to about under and or vs versus as when using")
)
"""Words after which an English title no longer names its kind: "manual *of* the status page"."""

PRESENT: Mapping[str, float] = {
    # what holds only for the moment
    "until further notice": 3.0,
    "for the time being": 2.0,
    "at the moment": 1.0,
    "at present": 1.5,
    "right now": 1.0,
    "at this time": 0.5,
    "at the time of": 0.0,
    "currently": 0.8,
    "as of": 0.4,
    "as of today": 2.5,
    "as of now": 2.0,
    "as of version": 0.0,
    "so far": 0.5,
    "today": 0.6,
    "today's": 0.8,
    "tonight": 1.5,
    "tomorrow": 1.2,
    "yesterday": 1.2,
    "this morning": 1.5,
    "this week": 2.5,
    "this week's": 2.5,
    "this month": 2.0,
    "this month's": 2.0,
    "this quarter": 1.5,
    "this season": 1.0,
    "this term": 0.5,
    "under this term": 0.0,
    "last week": 1.5,
    "last night": 1.0,
    "last # hours": 2.0,
    "last # days": 1.5,
    "last hour": 1.5,
    "next week": 1.5,
    "next month": 1.0,
    "next update": 1.5,
    "next review": 0.8,
    "next release": 1.0,
    "last updated": 0.5,
    "last refreshed": 2.5,
    "last revised": 0.5,
    "valid from": 0.8,
    "valid until": 1.0,
    "while stocks last": 3.0,
    "in stock": 1.5,
    "out of stock": 2.0,
    "on sale": 0.8,
    "out of service": 1.5,
    "out of order": 1.5,
    "on leave": 1.0,
    "on duty": 1.5,
    "on call": 1.5,
    "degraded": 0.8,
    "investigating": 0.6,
    # what is to come
    "upcoming": 1.0,
    "forthcoming": 0.6,
    "is planned for": 2.5,
    "are planned for": 2.5,
    "planned for": 1.8,
    "now planned": 2.5,
    "first planned": 1.5,
    "is expected on": 1.5,
    "is expected in": 1.2,
    "is scheduled for": 1.8,
    "scheduled for": 1.2,
    "is due": 1.0,
    "has not been decided": 2.0,
    "not been named yet": 2.0,
    "to be announced": 2.0,
    "to be confirmed": 1.5,
    "tbd": 1.5,
    "tba": 1.5,
    "coming soon": 2.0,
    "stay tuned": 2.0,
    # software that moves
    "newest": 1.0,
    "unreleased": 2.5,
    "bugfix": 1.5,
    "bug fixes": 1.5,
    "bug fix": 1.2,
    "now supports": 1.0,
    "fixed a bug": 2.0,
    "breaking changes": 0.8,
    "release notes": 0.4,
}
"""Words of the moment, weighed per mention in a thousand words."""

FORMAL: Mapping[str, float] = {
    "shall": 1.0,
    "shall not": 1.2,
    "must not": 0.5,
    "may not": 0.5,
    "hereby": 2.0,
    "herein": 1.5,
    "hereunder": 2.0,
    "thereof": 1.5,
    "pursuant to": 2.0,
    "notwithstanding": 1.5,
    "in accordance with": 0.6,
    "liable": 1.5,
    "liability": 1.5,
    "indemnify": 2.0,
    "damages": 1.2,
    "breach": 1.0,
    "warranty": 1.2,
    "warranties": 1.2,
    "agreement": 0.8,
    "the parties": 1.0,
    "either party": 1.0,
    "third party": 0.2,
    "jurisdiction": 1.2,
    "applicable law": 1.5,
    "law": 0.6,
    "laws": 0.8,
    "legal": 0.8,
    "lawful": 1.0,
    "court": 0.6,
    "rights": 0.5,
    "consent": 0.8,
    "personal data": 1.5,
    "personal information": 1.2,
    "privacy": 0.8,
    "gdpr": 2.0,
    "regulation": 0.8,
    "regulations": 0.8,
    "compliance": 1.0,
    "comply": 1.0,
    "prohibited": 0.8,
    "prohibits": 0.8,
    "policy": 0.4,
    "policies": 0.5,
    "terms of service": 1.0,
    "terminate": 0.5,
    "termination": 0.6,
    "confidential": 0.8,
    "violate": 0.6,
    "violates": 0.6,
    "violation": 0.6,
    "copyright": 0.5,
    "trademark": 0.8,
    "clause #": 1.2,
    "section #": 0.4,
    "article #": 1.0,
    "entitled to": 0.8,
    "obligation": 1.0,
    "obligations": 1.0,
    # safety and health
    "warning": 0.2,
    "hazard": 0.8,
    "hazardous": 0.8,
    "injury": 0.8,
    "protective": 0.3,
    "certificate": 0.2,
    "patients": 0.8,
    "dose": 1.0,
    "dosage": 1.0,
    "contraindicated": 2.0,
    "adverse reactions": 1.5,
    "clinical": 0.5,
    # money that is accounted for
    "fiscal year": 1.0,
    "fiscal": 0.6,
    "revenue": 0.5,
    "revenues": 0.5,
    "net income": 1.2,
    "audited": 1.0,
    "shareholders": 0.8,
    "securities": 0.6,
    "ebitda": 1.5,
    "tax": 0.4,
}
"""Words of law, duty, safety and accounts, weighed per mention in a thousand words."""
