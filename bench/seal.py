"""How many documents one core seals in a second, beside the private key alone.

Five runs over the same documents (invoices of the demo, about 70 KB with their XML); the median counts. A rate is
documents per second of CPU time, so that a busy machine says the same as an idle one. Every output is checked
outside the time, by pyHanko's validator, and a sample by pdfsig where it is installed; one that is not valid ends
the benchmark.

    python -m bench.seal [DOCUMENTS]
"""

import datetime as dt
import multiprocessing
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from gateway import clock, invoices
from gateway.demo.authority import Authority
from gateway.keys.load import SigningKey, load_pkcs12
from gateway.keys.trust import Trust
from gateway.sealing import pades, validate, verify

RUNS = 5
DIFFERENT = 50  # documents that are made; they take turns
PDFSIG_SAMPLE = 10


def main(documents: int = 1000) -> None:
    """Run, and print one line for each figure."""
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority.create(Path(folder) / "authority")
        key = load_pkcs12(authority.seal.pkcs12, authority.seal.password_file)
        made = [content for _, content in invoices.series(min(DIFFERENT, documents), dt.date(2026, 3, 2))]
        received = [made[turn % len(made)] for turn in range(documents)]
        _seal_and_check(received[:2], key, Trust.load((authority.root,)))  # imports, templates, the key's first use
        with _validators(authority.root) as validated:
            rates = [_run(received, key, Trust.load((authority.root,)), validated) for _ in range(RUNS)]
    alone, sealed, checked = (statistics.median(column) for column in zip(*rates, strict=True))
    _report("seal_per_core", sealed, alone)
    _report("seal_and_verify_per_core", checked, alone)


def _run(
    received: list[bytes], key: SigningKey, trust: Trust, validated: Callable[[list[bytes]], None]
) -> tuple[float, float, float]:
    """Rates of the key alone, of sealing, of sealing and verifying."""
    alone, _ = _rate(lambda: [key.sign(content[:200]) for content in received], len(received))
    sealing, outputs = _rate(partial(_seal, received, key), len(received))
    both, checked = _rate(partial(_seal_and_check, received, key, trust), len(received))
    validated(outputs)
    validated(checked)
    return alone, sealing, both


def _rate(work: Callable[[], list[bytes]], documents: int) -> tuple[float, list[bytes]]:
    start = time.process_time()
    outputs = work()
    return documents / (time.process_time() - start), outputs


def _seal(received: list[bytes], key: SigningKey) -> list[bytes]:
    return [pades.seal(content, key, "Facture originale", clock.now()) for content in received]


def _seal_and_check(received: list[bytes], key: SigningKey, trust: Trust) -> list[bytes]:
    chain, outputs = (key.certificate, *key.chain), []
    for content in received:
        now = clock.now()
        outputs.append(pades.seal(content, key, "Facture originale", now))
        verify.verify(outputs[-1], content, chain, trust, now)
    return outputs


@contextmanager
def _validators(root: Path) -> Iterator[Callable[[list[bytes]], None]]:
    """pyHanko on every output, in processes of their own; pdfsig on some."""
    processes = ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn"))

    def validated(outputs: list[bytes]) -> None:
        for _ in processes.map(partial(_validate, root), outputs, chunksize=25):
            pass
        for output in outputs[:: max(1, len(outputs) // PDFSIG_SAMPLE)]:
            _pdfsig(output, root.parent)

    with processes:
        yield validated


def _validate(root: Path, output: bytes) -> None:
    validate.full_validate(output, Trust.load((root,)), clock.now())


def _pdfsig(output: bytes, folder: Path) -> None:
    if shutil.which("pdfsig") is None:
        return
    path = folder / "sample.pdf"
    path.write_bytes(output)
    said = subprocess.run(["pdfsig", "-nocert", path], capture_output=True, text=True, check=True).stdout
    if "Signature is Valid" not in said or "Total document signed" not in said:
        raise SystemExit(f"pdfsig does not find the seal valid:\n{said}")


def _report(name: str, rate: float, alone: float) -> None:
    print(f"BENCH {name} {rate:.0f} docs/s ratio={rate / alone:.3f} peer=raw_rsa2048", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
