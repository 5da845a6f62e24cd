# SPDX-License-Identifier: GPL-3.0-or-later
"""State block, manifests and undo logs of a DPSR disk: do they say the same? Part of the oracle."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import xxhash

from tests.support import disk_image as disk
from tests.support.disk_image import Table


def state_faults(
    state: dict[str, str], manifest: dict[str, Any], table: Table, generation: int
) -> list[str]:
    """Where state block, manifest and table contradict each other after a backup."""
    boot = next(
        (
            pair
            for where in ("/boot", "/")
            for pair in manifest["pairs"]
            if pair["mountpoint"] == where
        ),
        None,
    )
    expected = {
        "format": "1", "state": "clean", "gen": str(manifest["generation"]),
        "txid": manifest["txid"], "slot": boot["new"]["uuid"] if boot else None, "booted": "0",
    }  # fmt: skip
    wrong = [
        f"the state block says {key}={state.get(key)}, not {value}"
        for key, value in expected.items()
        if state.get(key) != value
    ]
    if manifest["generation"] != generation:
        wrong.append(f"it is generation {manifest['generation']}, not {generation}")
    if manifest["disk_guid"].lower() != table.guid:
        wrong.append(
            f"the manifest's disk GUID is {manifest['disk_guid']}, the disk's {table.guid}"
        )
    taken = dt.datetime.fromisoformat(manifest["taken"])
    if taken.tzinfo is None or taken != dt.datetime.fromisoformat(state["taken"]):
        wrong.append(f"taken: {manifest['taken']} in the manifest, {state['taken']} in the state")
    return wrong


def chain_faults(dpsr: Path, table: Table, manifest: dict[str, Any], *, chained: bool) -> list[str]:
    """Where the vault holds more or less than the chain that begins with this manifest."""
    vault = table.named("dpsr-vault")
    there = set(disk.ext4_names(dpsr, vault, "/")) - {"lost+found"}
    manifests = {
        xxhash.xxh3_128_hexdigest(data): (name, json.loads(data)["manifest"])
        for name in there
        if name.startswith("manifest-")
        for data in [disk.ext4_file(dpsr, vault, f"/{name}")]
    }
    if bool(manifest["parent"]) != chained or bool(manifest["undo_log"]) != chained:
        parent, log = manifest["parent"], manifest["undo_log"]
        return [f"chained is {chained}, its parent is {parent!r} and its undo log {log!r}"]
    needed = {f"manifest-{manifest['txid']}.json"} | digests(manifest)
    back = 0
    while manifest["parent"] in manifests and manifest["undo_log"] in there:
        needed.add(manifest["undo_log"])
        name, manifest = manifests[manifest["parent"]]
        needed |= {name} | digests(manifest)
        back += 1
    if chained and not back:
        return [f"nothing leads back: the vault holds {sorted(there)}"]
    return [] if needed == there else [f"the vault holds {sorted(there)}, the chain {needed}"]


def digests(manifest: dict[str, Any]) -> set[str]:
    """The files of digests that a manifest names; none before version 3."""
    return {each["file"] for each in manifest.get("digests", ())}
