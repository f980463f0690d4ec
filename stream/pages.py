"""The pages for machines: metrics, the streams, and the newest frame of each."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from sources.picture import encode_jpeg
from stream.hub import RegistryStreams
from stream.metrics import CONTENT_TYPE, Metrics
from stream.registry import StreamRegistry, UnknownStreamError

METRICS_PATH = "/metrics"
STREAMS_PATH = "/v1/streams"
PICTURE_PATH = "/v1/streams/{name}/frame.jpg"
_BEFORE_NAME, _AFTER_NAME = PICTURE_PATH.split("{name}")
_JPEG_QUALITY = 85


@dataclass(frozen=True, slots=True)
class Page:
    """What is answered to a request, by whatever speaks HTTP."""

    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class Pages:
    """Made anew at every look; may be called from any thread."""

    def __init__(self, registry: StreamRegistry, metrics: Metrics) -> None:
        self._registry, self._metrics = registry, metrics
        self._streams = RegistryStreams(registry)

    def at(self, path: str) -> Page:
        """The page of a path; 404 where there is none."""
        if path == METRICS_PATH:
            return self.metrics()
        if path == STREAMS_PATH:
            return self.streams()
        name = path.removeprefix(_BEFORE_NAME).removesuffix(_AFTER_NAME)
        if path == PICTURE_PATH.format(name=name):
            return self.picture(name)
        return text_page(404, "there is no such page")

    def metrics(self) -> Page:
        """All series, for Prometheus."""
        return Page(200, CONTENT_TYPE, self._metrics.text())

    def streams(self) -> Page:
        """What each stream is and is doing, as JSON."""
        streams = [self._streams.info(name) for name in self._registry.names]
        body = json.dumps({"streams": [stream.model_dump(mode="json") for stream in streams]})
        return Page(200, "application/json", body.encode())

    def picture(self, name: str) -> Page:
        """The newest frame of a stream, as JPEG."""
        try:
            frame = self._registry.snapshot(name)
        except UnknownStreamError as error:
            return text_page(404, str(error))
        if frame is None:
            return text_page(503, "no frame has come yet")
        jpeg = encode_jpeg(frame.image, _JPEG_QUALITY)
        return Page(200, "image/jpeg", jpeg, {"Cache-Control": "no-store"})


def text_page(status: int, text: str) -> Page:
    """One line of text."""
    return Page(status, "text/plain; charset=utf-8", f"{text}\n".encode())
