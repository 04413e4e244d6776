"""kill -9 while a range is asked for again and published: asked until it is answered, it is published once.

One gateway on SQLite, killed and started again; two on one PostgreSQL, of which the other one goes on.
"""

import asyncio
import os
import random
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlmodel import col, select

from gateway.domain.folders import EventKind, FolderEvent
from gateway.servers.httpd import reachable
from gateway.store.blobs import LocalBlobs
from gateway.store.database import Database
from tests.crash.kill import Point
from tests.crash.test_pulls import DONE_WITHIN, ROUNDS, Gateway
from tests.dropfolder.world import World

DOCUMENTS = 40
BATCHES = DOCUMENTS // 4  # the settings publish four in one transaction


async def ask(gateway: Gateway, world: World, key: str) -> dict[str, Any]:
    """Ask one gateway for everything, as its operator; httpx.TransportError when it is gone."""
    with reachable(gateway._directory / "state" / "admin.sock") as name:
        transport = httpx.AsyncHTTPTransport(uds=name)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway/api/v1", timeout=20) as api:
            body = {"folder": world.folder.id, "first": 1, "last": DOCUMENTS, "reason": "their disk failed"}
            answer = await api.post("/folder/again", json=body, headers={"Idempotency-Key": key})
    assert answer.status_code == 201, answer.text
    said: dict[str, Any] = answer.json()
    return said


async def ask_until_answered(gateways: list[Gateway], world: World, key: str) -> dict[str, Any]:
    """As a client's program does that lost its answer: the same request, under the same key, to who is there."""
    while True:
        for one in [one for one in gateways if one.address is not None]:
            try:
                return await ask(one, world, key)
            except httpx.TransportError:
                await asyncio.sleep(0.05)
        await asyncio.sleep(0.05)


def events(world: World) -> list[FolderEvent]:
    query = select(FolderEvent).order_by(col(FolderEvent.sequence))
    return list(world.db.read(lambda tx: tx.exec(query).all()))


async def all_published(world: World) -> None:
    while len(await asyncio.to_thread(events, world)) < 2 * DOCUMENTS:
        await asyncio.sleep(0.1)


async def play(gateways: list[Gateway], world: World, point: Point) -> None:
    """The first one is killed at `point`; the request is answered all the same, and what it asked for is there."""
    first, *others = gateways
    try:
        await asyncio.gather(first.start(point), *(one.start() for one in others))
        asking = asyncio.create_task(ask_until_answered(gateways, world, "k-1"))
        await first.gone()
        if not others:
            await first.start()
        said = await asyncio.wait_for(asking, DONE_WITHIN)
        assert (said["documents"], said["after"]) == (DOCUMENTS, DOCUMENTS)
        await asyncio.wait_for(all_published(world), DONE_WITHIN)
        assert await ask_until_answered(gateways, world, "k-1") == said
        await asyncio.sleep(0.5)  # ten turns of a publisher that had something left
    finally:
        for one in gateways:
            await one.kill()


@pytest.mark.soak
@pytest.mark.parametrize("number", range(max(1, ROUNDS // 5)))
def test_killed_while_a_range_is_asked_for_again(
    number: int, database_url: str, blobs: LocalBlobs, tmp_path: Path
) -> None:
    """Before the order's commit nothing was asked, after it nothing is forgotten; nothing is published twice."""
    chance = random.Random(number)
    database = Database.open(database_url)
    world = World(database, blobs)
    try:
        world.publish(*(b"%d " % one + os.urandom(3000) for one in range(DOCUMENTS)))
        count = 1 if database.is_sqlite else 2
        gateways = [Gateway(tmp_path / f"gateway{n}", database_url, tmp_path / "blobs") for n in range(count)]
        # With two gateways each publishes some: the first one must come to its number.
        at = chance.randint(1, BATCHES // (2 * count))
        asyncio.run(play(gateways, world, Point("commit", at, chance.choice(("before", "after")), "daemon")))
        found = events(world)
        assert [one.sequence for one in found] == list(range(1, 2 * DOCUMENTS + 1))
        assert Counter(one.event for one in found[DOCUMENTS:]) == {EventKind.PUBLISHED_AGAIN: DOCUMENTS}
        entries = {entry.id: entry for entry in world.entries()}
        repeats = [entries[one.entry_id] for one in found[DOCUMENTS:]]
        assert [one.document_id for one in sorted(repeats, key=lambda one: one.delivery_id)] == [
            entries[one.entry_id].document_id for one in found[:DOCUMENTS]
        ]
        assert len({one.name_folded for one in entries.values()}) == 2 * DOCUMENTS
        assert len(world.bodies("folder.asked_again")) == 1
    finally:
        world.close()
        database.close()
