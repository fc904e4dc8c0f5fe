"""`bertune serve` beside what people write (FastAPI, a plain `def`, a transformers pipeline), on the loopback, in turn.

python -m benchmarks.serve [--clients 1 8 32 128] [--seconds 4] [--texts mrpc|mixed] [--no-peer]

Closed loop: every client sends its next request, of one text, when it has its answer; both sides are warm, and serve
the same minilm classifier in the same precision. Lines besides: `predict` on the same rows (what a service could
reach), a bare forward pass of one text, latency at 70 % of saturation (open loop), 10,000 requests at four times the
capacity of a small queue. MRPC's rows need BERTUNE_SHARED; without it they are made up.
"""

import argparse
import json
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.machine import describe, machine, save_result
from benchmarks.workloads import WORDS, mrpc_folder


def texts(kind: str, count: int = 2000) -> list[str]:
    """Texts of MRPC's lengths (about 25 words), or of 10 to 400 words."""
    chance = random.Random(0)
    if kind == "mrpc":
        lines = (mrpc_folder() / "train.tsv").read_text(encoding="utf-8-sig").splitlines()[1:]
        return [" ".join(line.split("\t")[3:5]) for line in lines][:count]
    lengths = (chance.randint(8, 300) for _ in range(count))
    return [" ".join(chance.choices(WORDS, k=length)) for length in lengths]


def make_model(folder: Path) -> Path:
    """A minilm classifier of two labels; how well it answers does not matter here."""
    import bertune

    rows = [{"text": text, "label": str(i % 2)} for i, text in enumerate(texts("mixed", 64))]
    data = folder / "train.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    bertune.train(
        task="text-classification", encoder="minilm", train=str(data), output=str(folder / "model"), max_steps=2,
        max_seq_length=512,
    )  # fmt: skip
    return folder / "model"


PEER = """
import sys, torch
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline
dtype = torch.bfloat16 if sys.argv[3] == "bf16" else torch.float32
classify = pipeline("text-classification", model=sys.argv[1], dtype=dtype, top_k=None)
app = FastAPI()
class Body(BaseModel):
    inputs: list[str]
@app.post("/predict")
def predict(body: Body):
    return {"predictions": classify(body.inputs, truncation=True)}
@app.get("/ready")
def ready():
    return {}
import uvicorn
uvicorn.run(app, port=int(sys.argv[2]), log_level="warning", access_log=False)
"""


@contextmanager
def running(command: Sequence[str], port: int) -> Iterator[float]:
    """A server process; yields the seconds until it was ready."""
    began = time.perf_counter()
    process = subprocess.Popen(command)
    try:
        import httpx

        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/ready", timeout=5).status_code == 200:
                    break
            except httpx.HTTPError:
                if process.poll() is not None:
                    raise RuntimeError(f"{command[:4]} ended") from None
            time.sleep(0.02)
        yield time.perf_counter() - began
    finally:
        process.terminate()
        process.wait(30)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


CLIENT = '''
"""argv: port, path, clients, seconds, rate (0: closed loop). stdin: JSON list of texts. stdout: JSON result."""
import asyncio, json, sys, time
port, path, clients = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
seconds, rate = float(sys.argv[4]), float(sys.argv[5])
bodies = [json.dumps({"inputs": [text]}).encode() for text in json.load(sys.stdin)]
latencies, statuses, place = [], {}, 0

async def ask(reader, writer, body):
    writer.write(b"POST %s HTTP/1.1\\r\\nHost: x\\r\\nContent-Type: application/json\\r\\n"
                 b"Content-Length: %d\\r\\n\\r\\n"
                 % (path.encode(), len(body)) + body)
    head = await reader.readuntil(b"\\r\\n\\r\\n")
    status = int(head.split(b" ", 2)[1])
    length = next(int(l.split(b":")[1]) for l in head.lower().split(b"\\r\\n") if l.startswith(b"content-length"))
    await reader.readexactly(length)
    statuses[status] = statuses.get(status, 0) + 1

async def closed(until):
    global place
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        place += 1
        began = time.perf_counter()
        await ask(reader, writer, bodies[place % len(bodies)])
        latencies.append(time.perf_counter() - began)
    writer.close()

async def open_loop(until):
    pool = asyncio.Queue()
    for _ in range(clients):
        pool.put_nowait(await asyncio.open_connection("127.0.0.1", port))
    async def one(body, due):
        pair = await pool.get()
        await ask(*pair, body)
        pool.put_nowait(pair)
        latencies.append(time.perf_counter() - due)
    tasks, due, count = [], time.perf_counter(), 0
    while due < until:
        await asyncio.sleep(max(0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(one(bodies[count % len(bodies)], due)))
        count, due = count + 1, due + 1 / rate
    await asyncio.gather(*tasks)

async def main():
    began = time.perf_counter()
    until = began + seconds
    await (open_loop(until) if rate else asyncio.gather(*(closed(until) for _ in range(clients))))
    taken = time.perf_counter() - began
    latencies.sort()
    at = lambda q: latencies[min(len(latencies) - 1, int(q * len(latencies)))] * 1000
    print(json.dumps({"rows_per_second": len(latencies) / taken, "p50_ms": at(0.5), "p95_ms": at(0.95),
                      "p99_ms": at(0.99), "statuses": statuses}))

asyncio.run(main())
'''


def load(port: int, path: str, clients: int, seconds: float, rows: Sequence[str], rate: float = 0.0) -> dict[str, Any]:
    """Requests of one text from a process of its own."""
    command = [sys.executable, "-c", CLIENT, str(port), path, str(clients), str(seconds), str(rate)]
    done = subprocess.run(command, input=json.dumps(rows), capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def ours_alone(folder: Path, precision: str, rows: Sequence[str]) -> dict[str, float]:
    """Rows/s of `predict`, and milliseconds of a bare answer to one text."""
    import bertune

    model = bertune.load(folder, precision=precision)
    model.predict(rows[:256])
    rates = [len(rows) / _seconds(lambda: model.predict(rows)) for _ in range(3)]
    single = [_seconds(lambda text=text: model.predict([text])) for text in rows[:100]]  # type: ignore[misc]
    return {"predict_rows_per_second": statistics.median(rates), "bare_ms": statistics.median(single) * 1000}


def _seconds(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def main() -> None:
    """Run everything and print a line of JSON a result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32, 128])
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--texts", default="mrpc", choices=("mrpc", "mixed"))
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--no-peer", action="store_true")
    options = parser.parse_args()
    print(describe(machine()))
    rows = texts(options.texts)
    with tempfile.TemporaryDirectory() as name:
        folder = make_model(Path(name))
        alone = ours_alone(folder, options.precision, rows)
        save_result("serve", {"side": "predict", "texts": options.texts, **alone})
        results = measured(options, folder, rows)
        best = max(result["rows_per_second"] for result in results)
        save_result("serve", {"saturated_share_of_predict": best / alone["predict_rows_per_second"]})


def measured(options: argparse.Namespace, folder: Path, rows: Sequence[str]) -> list[dict[str, Any]]:
    """Both servers under every number of clients, in turn, then latency at 70 % of the best rate."""
    port, peer_port = free_port(), free_port()
    program = [sys.executable, "-m", "bertune", "serve", "--model", f"m={folder}", "--port", str(port)]
    program += ["--precision", options.precision, "--no-access-log"]
    results = []
    with running(program, port) as ready:
        save_result("serve", {"side": "bertune", "ready_seconds": ready})
        sides = [("bertune", port, "/v1/models/m/predict")]
        with peer(options, folder, peer_port) as found:
            sides += found
            for clients in options.clients:
                for side, at, path in sides:
                    load(at, path, clients, 0.5, rows)  # warms up
                    result = load(at, path, clients, options.seconds, rows)
                    save_result("serve", {"side": side, "clients": clients, "texts": options.texts, **result})
                    results += [result] if side == "bertune" else []
        best = max(result["rows_per_second"] for result in results)
        steady = load(port, sides[0][2], 256, options.seconds, rows, rate=0.7 * best)
        save_result("serve", {"side": "bertune", "open_loop_share": 0.7, "texts": options.texts, **steady})
    return results


@contextmanager
def peer(options: argparse.Namespace, folder: Path, port: int) -> Iterator[list[tuple[str, int, str]]]:
    """The service that people write, if it is wanted."""
    if options.no_peer:
        yield []
        return
    from bertune.hardware import choose_device, choose_dtype

    precision = "bf16" if "bfloat16" in str(choose_dtype(options.precision, choose_device("cpu"))) else "fp32"
    with running([sys.executable, "-c", PEER, str(folder), str(port), precision], port):
        yield [("fastapi+pipeline", port, "/predict")]


if __name__ == "__main__":
    main()
