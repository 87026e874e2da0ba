"""Read what a run asks, whatever form it comes in.

A question has gold answers (none, if no document says) and names the documents that answer it.
Everything else that is said of it in a short text is a label, by which scores are sliced.

- `NAME.jsonl`, a passage a line:
  `{"id": "p1", "context": "...", "qas": [{"question": "Who?", "answers": ["Ada"]}]}`
- `NAME.jsonl`, a question a line:
  `{"question": "Who?", "answers": ["Ada"], "document": "a.md", "start": 7, "end": 10}`
- `NAME.json`, SQuAD 1.1 or 2.0:
  `{"data": [{"title": "...", "paragraphs": [{"context": "...", "qas": [...]}]}]}`
- `NAME.csv` or `NAME.tsv`, a question a row, with `|` between answers and `;` between documents:
  `question,answers,documents,topic`, then `Who?,Ada|Ada L.,a.md;b.md,people`
- a folder with `documents/` (text, Markdown, HTML, PDF, Word) and `questions.jsonl`, `.csv` or
  `.tsv`, a question a line: `eval/sample`
- `hub:ID`, `hub:ID:config`, `hub:ID@split` or `hub:ID:config@split`, a question a row:
  `hub:rajpurkar/squad_v2@validation[:500]`

Files may be gzip archives. Questions that come without passages or a `context` are asked of the
files in `documents`, the folder given or the one beside the file; these are named by their path
below it. Columns that are called otherwise are mapped: `{"question": "q", "context": "passage"}`;
`{"id": ""}` says that there is no such column. See `questions.COLUMNS`.
"""

from hybridqa.eval.datasets.loading import load

__all__ = ["load"]
