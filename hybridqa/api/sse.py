"""Server-sent events that end when nobody listens any more, or the service stops."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event

KEEP_ALIVE = b": keep-alive\n\n"
KEEP_ALIVE_S = 15.0


def event(name: str, data: Any, number: int | None = None) -> bytes:
    """Return an event as it is sent."""
    text = json.dumps(data, ensure_ascii=False)
    return format_sse_event(data_str=text, event=name, id=None if number is None else str(number))


def streamed(events: AsyncIterator[bytes] | Iterator[bytes]) -> StreamingResponse:
    """Return events as a response that no proxy holds back."""
    return StreamingResponse(
        events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"}
    )
