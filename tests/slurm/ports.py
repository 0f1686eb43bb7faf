"""Which ports processes listen on, and what they answer to whom."""

import re
import subprocess
from collections.abc import Iterable

UNAUTHENTICATED = 16  # gRPC's status
METHODS = (  # one of each service of Ray that has a port
    "NodeInfoGcsService/GetAllNodeInfo",
    "NodeManagerService/GetNodeStats",
    "CoreWorkerService/GetCoreWorkerStats",
)
EMPTY_MESSAGE = b"\0" * 5  # gRPC's frame: not compressed, of length 0
TRIES = 5  # Ray's servers sometimes close a connection without a word
NO_ANSWER = -1


def listening_ports(pids: Iterable[int]) -> list[tuple[str, int]]:
    """Host and TCP port of everything that these processes listen on."""
    wanted = set(pids)
    listing = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout
    found = set()
    for line in listing.splitlines():
        owners = {int(pid) for pid in re.findall(r"pid=(\d+)", line)}
        if owners & wanted:
            host, _, port = line.split()[3].rpartition(":")
            found.add(("127.0.0.1" if host.strip("[]") in ("*", "0.0.0.0", "::") else host, int(port)))
    return sorted(found)


def call(host: str, port: int, method: str, token: str | None) -> int:
    """The gRPC status of a call with an empty request; NO_ANSWER if the port does not speak gRPC."""
    for _ in range(TRIES):
        answer = curl(
            *("--http2-prior-knowledge", "-H", "content-type: application/grpc", "-H", "te: trailers"),
            *(f"http://{host}:{port}/ray.rpc.{method}",),
            token=token,
        )
        status = re.search(r"^grpc-status: (\d+)", answer, re.MULTILINE)
        if status:
            return int(status[1])
    return NO_ANSWER


def http_status(host: str, port: int, token: str | None) -> int:
    """The status of a plain HTTP request to Ray's runtime environment agent; 0 if there is no answer."""
    answer = curl("--http1.1", f"http://{host}:{port}/get_or_create_runtime_env", token=token)
    status = re.search(r"^HTTP/1\.1 (\d+)", answer)
    return int(status[1]) if status else 0


def curl(*arguments: str, token: str | None) -> str:
    """The headers of an answer to a POST."""
    secret = ["-H", f"authorization: Bearer {token}"] if token else []
    command = [
        "curl",
        "-s",
        "--max-time",
        "2",
        "-X",
        "POST",
        "--data-binary",
        "@-",
        "-D",
        "-",
        "-o",
        "/dev/null",
    ]
    answer = subprocess.run(
        [*command, *secret, *arguments], input=EMPTY_MESSAGE, capture_output=True, check=False
    )
    return answer.stdout.decode(errors="replace").replace("\r", "")
