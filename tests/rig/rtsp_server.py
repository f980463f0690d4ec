"""An RTSP camera on this machine, for Debian's Python with GStreamer: see --help.

A program of its own, run by tests.rig.rtsp: nothing in our environment can import `gi`.
Its pictures carry their number as tests.rig.barcode draws it, and the numbers go on by the
clock, so that what a client misses is missing from them. It ends when its stdin does.
"""

import argparse
import sys
import time
from typing import Any

try:
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtsp", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtsp, GstRtspServer
except ModuleNotFoundError:
    MISSING = ["python3-gi", "gir1.2-gst-rtsp-server-1.0", "gstreamer1.0-plugins-ugly"]
except (ImportError, ValueError):
    MISSING = ["gir1.2-gst-rtsp-server-1.0", "gstreamer1.0-plugins-ugly"]
else:
    Gst.init(None)
    # The server's package depends on all plugins that are needed but the encoder.
    MISSING = [] if Gst.ElementFactory.find("x264enc") else ["gstreamer1.0-plugins-ugly"]

# No config-interval: rtph264pay would repeat the parameter sets before each slice of a key frame,
# and FFmpeg then takes the slices for pictures of their own.
TEST_STREAM = (
    "( appsrc name=source is-live=true format=time do-timestamp=true "
    "caps=video/x-raw,format=I420,width={width},height={height},framerate={fps}/1 "
    "! x264enc threads=1 tune=zerolatency speed-preset=ultrafast key-int-max={gop} "
    "! rtph264pay name=pay0 pt=96 )"
)
FILE_STREAM = '( filesrc location="{file}" ! qtdemux ! rtph264pay name=pay0 pt=96 )'


class Camera:
    """Draws `fps` numbered pictures a second for each client, counted from the start."""

    def __init__(self, width: int, height: int, fps: int) -> None:
        self.width, self.height, self.fps = width, height, fps
        self.started = time.monotonic()
        self.texture = bytes(40 + i % 160 for i in range(width + 320))
        self.chroma = bytes([110]) * (width * height // 4) + bytes([150]) * (width * height // 4)

    def picture(self, number: int) -> bytes:
        """Return the I420 bytes of a picture with `number` on it."""
        bits = [number >> bit & 1 for bit in reversed(range(16))]
        row = b"".join(bytes([235 if bit else 16]) * (self.width // 16) for bit in bits)
        inverse = bytes(251 - value for value in row)
        band = self.height // 8
        start = number * 2 % 160
        rest = self.texture[start : start + self.width] * (self.height - 2 * band)
        return row * band + inverse * band + rest + self.chroma

    def film(self, factory: Any, media: Any) -> None:
        """Feed the stream of `media`, which the server has just made, until its end."""
        source = media.get_element().get_by_name("source")
        last = self.due() - 1

        def push() -> bool:
            nonlocal last
            due = self.due()
            if due > last:
                # A late timer skips no number; a stopped process does, as a camera would.
                last = last + 1 if due - last < self.fps // 2 else due
                source.emit("push-buffer", Gst.Buffer.new_wrapped(self.picture(last)))
            return GLib.SOURCE_CONTINUE

        timer = GLib.timeout_add(max(1, 250 // self.fps), push)
        media.connect("unprepared", lambda media: GLib.source_remove(timer))

    def due(self) -> int:
        return int((time.monotonic() - self.started) * self.fps)


def require_password(server: Any, factory: Any, user: str, password: str, digest: bool) -> None:
    """Let only `user` with `password` see what `factory` makes."""
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", user)
    if digest:
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(user, password, token)
    else:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    permissions = GstRtspServer.RTSPPermissions()
    for permission in ("media.factory.access", "media.factory.construct"):
        permissions.add_permission_for_role(user, permission, True)
    factory.set_permissions(permissions)
    server.set_auth(auth)


def serve(options: argparse.Namespace) -> None:
    """Serve rtsp://127.0.0.1:port/live until stdin ends."""
    width, height = map(int, options.size.split("x"))
    camera = Camera(width, height, options.fps)
    factory = GstRtspServer.RTSPMediaFactory()
    if options.file:
        factory.set_launch(FILE_STREAM.format(file=options.file))
    else:
        values = {"width": width, "height": height, "fps": options.fps, "gop": options.gop}
        factory.set_launch(TEST_STREAM.format(**values))
        factory.connect("media-configure", camera.film)
    server = GstRtspServer.RTSPServer()
    if options.user:
        require_password(server, factory, options.user, options.password, options.digest)
    server.set_address("127.0.0.1")
    server.set_service(str(options.port))
    server.get_mount_points().add_factory("/live", factory)
    if not server.attach(None):
        sys.exit(f"port {options.port} can't be had")
    print(f"PORT {server.get_bound_port()} STARTED {camera.started}", flush=True)
    loop = GLib.MainLoop()
    GLib.io_add_watch(sys.stdin.fileno(), GLib.IO_IN | GLib.IO_HUP, lambda *_: loop.quit())
    loop.run()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="print missing Debian packages, end")
    parser.add_argument("--port", type=int, default=0, help="0 takes any, and prints which")
    parser.add_argument("--size", default="320x240", help="a multiple of 16 wide, of 8 high")
    parser.add_argument("--fps", type=int, default=25)
    parser.add_argument("--gop", type=int, default=25, help="frames from one key frame to the next")
    parser.add_argument("--file", help="an H.264 MP4 to serve instead of numbered pictures")
    parser.add_argument("--user")
    parser.add_argument("--password", default="")
    parser.add_argument("--digest", action="store_true", help="ask for a digest, not a password")
    options = parser.parse_args()
    if options.check:
        print(*MISSING)
    elif MISSING:
        sys.exit(f"apt-get install {' '.join(MISSING)}")
    else:
        serve(options)


if __name__ == "__main__":
    main()
