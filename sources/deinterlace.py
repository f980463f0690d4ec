"""Makes whole pictures of interlaced ones, with FFmpeg's yadif.

The two halves of an interlaced picture, its odd and its even lines, were taken at two moments, so
that whatever moves has combs for edges.
"""

import av
from av.filter import Graph


class Deinterlacer:
    """Passes frames through, and from the first one that is flagged interlaced on filters them.

    The filter looks at the frames before and after, so that its frames come one later. Frames
    that are not flagged come out of it as they went in.
    """

    def __init__(self) -> None:
        self._graph: Graph | None = None
        self._layout: tuple[int, int, str] | None = None

    def push(self, frame: av.VideoFrame) -> list[av.VideoFrame]:
        """Return the frames that are ready after `frame`.

        Raises av.FFmpegError for a frame that cannot be filtered.
        """
        layout = (frame.width, frame.height, frame.format.name)
        ready = self.drain() if layout != self._layout else []
        if self._graph is None:
            if not frame.interlaced_frame:
                return [*ready, frame]
            self._graph, self._layout = _graph(frame), layout
        self._graph.vpush(frame)
        return ready + _pull(self._graph)

    def drain(self) -> list[av.VideoFrame]:
        """Return the frames that are left, at the end or before frames of another kind."""
        graph, self._graph = self._graph, None
        if graph is None:
            return []
        graph.vpush(None)
        return _pull(graph)


def _graph(frame: av.VideoFrame) -> Graph:
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
    )
    graph.link_nodes(source, graph.add("yadif", "deint=interlaced"), graph.add("buffersink"))
    graph.configure()
    return graph


def _pull(graph: Graph) -> list[av.VideoFrame]:
    ready = []
    while True:
        try:
            ready.append(graph.vpull())
        except (av.error.BlockingIOError, av.error.EOFError):
            return ready
