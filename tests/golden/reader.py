#!/usr/bin/env python3
"""Reads a dbkeeper repository of format version 1 by the text of src/repository/FORMAT.md alone.

It shares no code with dbkeeper: Python's standard library and the programs `age` and `zstd` are all that it uses. It checks
every signature, every hash, every chunk id and every checksum, and prints what it found as one JSON document.

    reader.py --repository FOLDER --identity FILE [--repository-key FILE]
    reader.py … --vault KIND/NAME --table SCHEMA.NAME     the rows of a table of the newest backup, as COPY text

Without the repository key it reads all the same, and says `"verified": false`. Anything that is not as it must be ends it
with one line on stderr and exit status 1.
"""

import argparse
import base64
import datetime
import hashlib
import hmac
import json
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

FORMAT = 1
TIME = r"\d{8}T\d{6}Z"
EPOCH_FILE = re.compile(rf"^({TIME}-[0-9a-f]{{8}})(?:\.([1-9]\d*))?\.json$")
PACK_FILE = re.compile(rf"^({TIME})\.([0-9a-f]{{64}})$")
STAMP = "%Y%m%dT%H%M%SZ"
CLASSES = dict(h="hourly", d="daily", w="weekly", m="monthly", y="yearly", k="kept", x="extra")
BACKUP_ID = re.compile(rf"^{TIME}-[hdwmykx]\d+h-[0-9a-f]{{8}}$")


class Wrong(Exception):
    """Something is not as the format says."""


def require(condition, what):
    if not condition:
        raise Wrong(what)


# ---- the keys


def hkdf(key, salt, info, length):
    """HKDF-SHA256 (RFC 5869)."""
    prk = hmac.digest(salt, key, "sha256")
    out, block, number = b"", b"", 1
    while len(out) < length:
        block = hmac.digest(prk, block + info + bytes([number]), "sha256")
        out, number = out + block, number + 1
    return out[:length]


def read_repository_key(path):
    """One line: the prefix, 64 hexadecimal digits of key and 8 of its checksum."""
    text = path.read_text().strip()
    prefix = "dbkeeper-key-1-"
    require(text.startswith(prefix) and len(text) == len(prefix) + 72, "this is no repository key")
    key, checksum = bytes.fromhex(text[len(prefix):][:64]), bytes.fromhex(text[-8:])
    require(hashlib.sha256(prefix.encode() + key).digest()[:4] == checksum, "the repository key has a typing error")
    return key


class Keys:
    """Everything that follows from the repository key for one vault, or (without kind and name) for the repository."""

    def __init__(self, repository_key, repository_id, vault=""):
        def derive(purpose, length):
            return hkdf(repository_key, repository_id, f"dbkeeper/1/{purpose}/{vault}".encode(), length)

        self.mac = derive("mac", 32)
        self.chunk_id = derive("chunk-id", 32)
        self.rows = derive("rows", 192)
        self.index_identity = age_identity(derive("index", 32))


def age_identity(secret):
    """An X25519 secret as age writes it: bech32 (BIP 173) with the prefix AGE-SECRET-KEY-, in capitals."""
    letters, prefix = "qpzry9x8gf2tvdw0s3jn54khce6mua7l", "age-secret-key-"
    bits, count, values = 0, 0, []
    for byte in secret:
        bits, count = (bits << 8) | byte, count + 8
        while count >= 5:
            count -= 5
            values.append((bits >> count) & 31)
    if count:
        values.append((bits << (5 - count)) & 31)

    def polymod(items):
        checksum = 1
        for item in items:
            top, checksum = checksum >> 25, ((checksum & 0x1FFFFFF) << 5) ^ item
            for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
                checksum ^= generator if (top >> bit) & 1 else 0
        return checksum

    expanded = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    checksum = polymod(expanded + values + [0] * 6) ^ 1
    values += [(checksum >> 5 * (5 - i)) & 31 for i in range(6)]
    return (prefix + "1" + "".join(letters[value] for value in values)).upper()


# ---- stock programs


def run(command, given):
    done = subprocess.run(command, input=given, capture_output=True)
    require(done.returncode == 0, f"{command[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def open_file(path, identity):
    """Opens an age file with an identity, which goes through a pipe and touches no disk."""
    return run(["age", "-d", "-i", "-", str(path)], identity.encode() + b"\n")


def unzstd(frames):
    return run(["zstd", "-dcq"], frames)


# ---- XXH3-128 with a secret (xxHash 0.8), as its specification describes it

M32, M64 = (1 << 32) - 1, (1 << 64) - 1
P32 = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)
P64 = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)
MX1, MX2 = 0x165667919E3779F9, 0x9FB21C651E98DF25


def u32(data, at):
    return int.from_bytes(data[at:at + 4], "little")


def u64(data, at):
    return int.from_bytes(data[at:at + 8], "little")


def avalanche64(h):
    h = ((h ^ (h >> 33)) * P64[1]) & M64
    h = ((h ^ (h >> 29)) * P64[2]) & M64
    return h ^ (h >> 32)


def avalanche3(h):
    h = ((h ^ (h >> 37)) * MX1) & M64
    return h ^ (h >> 32)


def fold(a, b):
    product = a * b
    return (product & M64) ^ (product >> 64)


def mix16(data, at, secret, key):
    return fold(u64(data, at) ^ u64(secret, key), u64(data, at + 8) ^ u64(secret, key + 8))


def mix32(low, high, data, first, second, secret, key):
    low = ((low + mix16(data, first, secret, key)) & M64) ^ ((u64(data, second) + u64(data, second + 8)) & M64)
    high = ((high + mix16(data, second, secret, key + 16)) & M64) ^ ((u64(data, first) + u64(data, first + 8)) & M64)
    return low, high


def xxh3_128(data, secret):
    n = len(data)
    if n <= 16:
        return xxh3_short(data, n, secret)
    if n > 240:
        return xxh3_long(data, n, secret)
    low, high = (n * P64[0]) & M64, 0
    if n <= 128:
        for step in range((n - 1) // 32, -1, -1):
            low, high = mix32(low, high, data, 16 * step, n - 16 * (step + 1), secret, 32 * step)
    else:
        for i in range(32, 160, 32):
            low, high = mix32(low, high, data, i - 32, i - 16, secret, i - 32)
        low, high = avalanche3(low), avalanche3(high)
        for i in range(160, n + 1, 32):
            low, high = mix32(low, high, data, i - 32, i - 16, secret, 3 + i - 160)
        low, high = mix32(low, high, data, n - 16, n - 32, secret, 136 - 17 - 16)
    upper = (low * P64[0] + high * P64[3] + n * P64[1]) & M64
    return ((-avalanche3(upper)) & M64) << 64 | avalanche3((low + high) & M64)


def xxh3_short(data, n, secret):
    if n > 8:
        flip_low, flip_high = u64(secret, 32) ^ u64(secret, 40), u64(secret, 48) ^ u64(secret, 56)
        first, last = u64(data, 0), u64(data, n - 8)
        product = (first ^ last ^ flip_low) * P64[0]
        low, high = ((product & M64) + ((n - 1) << 54)) & M64, product >> 64
        last ^= flip_high
        high = (high + last + (last & M32) * (P32[1] - 1)) & M64
        low ^= int.from_bytes(high.to_bytes(8, "little"), "big")
        product = low * P64[1]
        return avalanche3(((product >> 64) + high * P64[1]) & M64) << 64 | avalanche3(product & M64)
    if n >= 4:
        keyed = (u32(data, 0) | u32(data, n - 4) << 32) ^ u64(secret, 16) ^ u64(secret, 24)
        product = keyed * (P64[0] + (n << 2))
        low, high = product & M64, product >> 64
        high = (high + (low << 1)) & M64
        low ^= high >> 3
        low = ((low ^ (low >> 35)) * MX2) & M64
        return avalanche3(high) << 64 | low ^ (low >> 28)
    if n:
        combined = data[0] << 16 | data[n >> 1] << 24 | data[n - 1] | n << 8
        swapped = int.from_bytes(combined.to_bytes(4, "little"), "big")
        rotated = ((swapped << 13) | (swapped >> 19)) & M32
        low = combined ^ u32(secret, 0) ^ u32(secret, 4)
        return avalanche64(rotated ^ u32(secret, 8) ^ u32(secret, 12)) << 64 | avalanche64(low)
    return avalanche64(u64(secret, 80) ^ u64(secret, 88)) << 64 | avalanche64(u64(secret, 64) ^ u64(secret, 72))


def xxh3_long(data, n, secret):
    acc = [P32[2], P64[0], P64[1], P64[2], P64[3], P32[1], P64[4], P32[0]]
    stripes = (len(secret) - 64) // 8

    def accumulate(at, key):
        for i, value in enumerate(struct.unpack_from("<8Q", data, at)):
            keyed = value ^ u64(secret, key + 8 * i)
            acc[i ^ 1] = (acc[i ^ 1] + value) & M64
            acc[i] = (acc[i] + (keyed & M32) * (keyed >> 32)) & M64

    blocks = (n - 1) // (64 * stripes)
    for block in range(blocks):
        for stripe in range(stripes):
            accumulate(64 * (block * stripes + stripe), 8 * stripe)
        for i in range(8):
            acc[i] = ((acc[i] ^ (acc[i] >> 47) ^ u64(secret, len(secret) - 64 + 8 * i)) * P32[0]) & M64
    for stripe in range((n - 1 - 64 * stripes * blocks) // 64):
        accumulate(64 * (blocks * stripes + stripe), 8 * stripe)
    accumulate(n - 64, len(secret) - 64 - 7)

    def merge(key, start):
        pairs = (fold(acc[2 * i] ^ u64(secret, key + 16 * i), acc[2 * i + 1] ^ u64(secret, key + 16 * i + 8)) for i in range(4))
        return avalanche3((start + sum(pairs)) & M64)

    return merge(len(secret) - 64 - 11, ~(n * P64[1]) & M64) << 64 | merge(11, (n * P64[0]) & M64)


# ---- the repository


class Repository:
    def __init__(self, folder, identity, repository_key):
        self.folder, self.identity, self.key = Path(folder), identity, repository_key
        document = json.loads(self.lines("dbkeeper.json")[0])
        require(document["format"] == FORMAT, f"format {document['format']} is not {FORMAT}")
        self.id = bytes.fromhex(document["repository"])
        self.document = self.signed("dbkeeper.json", self.keys())

    def keys(self, vault=""):
        return Keys(self.key, self.id, vault) if self.key else None

    def lines(self, key):
        return (self.folder / key).read_bytes().split(b"\n")

    def signed(self, key, keys):
        """A signed document: its JSON, after the MAC of its place and text has been compared."""
        lines = self.lines(key)
        require(len(lines) == 3 and lines[2] == b"", f"{key} has not two lines")
        if keys:
            expected = hmac.digest(keys.mac, key.encode() + b"\0" + lines[0], "sha256").hex()
            require(hmac.compare_digest(json.loads(lines[1])["mac"], expected), f"{key} does not verify")
        return json.loads(lines[0])

    def vaults(self):
        for kind in ("central", "tenant", "volume"):
            folder = self.folder / "vaults" / kind
            for path in sorted(folder.iterdir()) if folder.is_dir() else []:
                yield Vault(self, kind, path.name)

    def reports(self):
        keys = self.keys()
        return [self.signed(str(p.relative_to(self.folder)), keys) for p in sorted(self.folder.glob("runs/*/*.json"))]


class Vault:
    def __init__(self, repository, kind, segment):
        self.repository, self.kind, self.segment = repository, kind, segment
        self.name = re.sub(rb"~([0-9a-f]{2})", lambda m: bytes.fromhex(m[1].decode()), segment.encode()).decode()
        self.prefix = f"vaults/{kind}/{segment}"
        self.folder = repository.folder / self.prefix
        self.keys = repository.keys(f"{kind}/{segment}")
        self.packs = {}
        for path in sorted((self.folder / "packs").iterdir()):
            match = PACK_FILE.match(path.name)
            require(match, f"{path} is no pack")
            # Of two objects that differ only in the time the later one counts: it sorts last.
            self.packs[match[2]] = path
        self.identities, self.opened = self.open_epochs(), {}

    def open_epochs(self):
        """The secret of every epoch, from whichever of its revisions the identity opens."""
        found = {}
        for path in sorted((self.folder / "keys").iterdir()):
            match = EPOCH_FILE.match(path.name)
            require(match and (match[2] is None or int(match[2]) >= 2), f"{path} is no epoch")
            document = self.repository.signed(f"{self.prefix}/keys/{path.name}", self.keys)
            require(document["epoch"] == match[1], f"{path} describes another epoch")
            self.is_ours(document["vault"], path)
            armored = document["sealed"].encode()
            done = subprocess.run(["age", "-d", "-i", str(self.repository.identity)], input=armored, capture_output=True)
            if done.returncode == 0:
                found[match[1]] = done.stdout.decode().strip()
        return found

    def is_ours(self, vault, what):
        require(vault == {"kind": self.kind, "name": self.name}, f"{what} is of another vault")

    def identity_of(self, epoch):
        require(epoch in self.identities, f"the identity does not open epoch {epoch} of {self.prefix}")
        return self.identities[epoch]

    def backups(self):
        folder = self.folder / "backups"
        return [path.name for path in sorted(folder.iterdir()) if (path / "backup.json").exists()]

    def stored(self, facts, path):
        """The path of an object, after its size and hash have been compared."""
        data = path.read_bytes()
        require(len(data) == facts["bytes"], f"{path} has {len(data)} bytes instead of {facts['bytes']}")
        require(hashlib.sha256(data).hexdigest() == facts["sha256"], f"{path} is not what its marker names")
        return path

    def pack(self, sha256, epoch):
        """The plaintext of a pack and where its chunks begin; each chunk's id is compared."""
        if sha256 not in self.opened:
            require(sha256 in self.packs, f"pack {sha256} is missing")
            path = self.packs[sha256]
            require(hashlib.sha256(path.read_bytes()).hexdigest() == sha256, f"{path} is not what its name says")
            body = open_file(path, self.identity_of(epoch))
            self.opened[sha256] = self.chunks(body, unzstd(body), path)
        return self.opened[sha256]

    def chunks(self, body, plain, path):
        magic, count = body[-8:-4], u32(body, len(body) - 4)
        table = len(body) - 8 - 40 * count
        require(magic == b"DBKT" and u32(body, table - 8) == 0x184D2A5D, f"{path} has no table of contents")
        require(u32(body, table - 4) == 40 * count + 8, f"{path} has a table of another length")
        at, frames, borders = 0, 0, [0]
        for number in range(count):
            entry = body[table + 40 * number:][:40]
            length = u32(entry, 32)
            frames += u32(entry, 36)
            if self.keys:
                mac = hmac.digest(self.keys.chunk_id, plain[at:at + length], "sha256")
                require(mac == entry[:32], f"chunk {entry[:32].hex()} of {path} has other content")
            at += length
            borders.append(at)
        require(at == len(plain) and frames == table - 8, f"the table of {path} does not fit its frames")
        return plain, borders


class Backup:
    def __init__(self, vault, name):
        require(BACKUP_ID.match(name), f"{name} is no backup")
        self.vault, self.name, key = vault, name, f"{vault.prefix}/backups/{name}"
        self.marker = vault.repository.signed(f"{key}/backup.json", vault.keys)
        marker, folder = self.marker, vault.repository.folder / key
        vault.is_ours(marker["vault"], name)
        require(marker["id"] == name and marker["format"] == FORMAT, f"{key} describes another backup")
        require(marker["repository"] == vault.repository.id.hex(), f"{key} is of another repository")
        self.check_times()
        for facts in marker["packs"] + marker["segments"]:
            require(facts["sha256"] in vault.packs, f"{name} needs {facts['sha256']}, which is missing")
            expiry = vault.packs[facts["sha256"]].name.split(".")[0]
            require(expiry >= moment(marker["expires_at"]).strftime(STAMP), f"pack {facts['sha256']} expires before {name}")
            vault.stored(facts, vault.packs[facts["sha256"]])
        sealed = vault.stored(marker["manifest"], folder / "manifest.age")
        self.manifest = json.loads(unzstd(open_file(sealed, vault.identity_of(marker["epoch"]))))
        vault.is_ours(self.manifest["vault"], name)
        require(self.manifest["id"] == name and self.manifest["format"] == FORMAT, f"{sealed} is of another backup")
        require({p["sha256"] for p in self.manifest["packs"]} == {p["sha256"] for p in marker["packs"]}, f"{sealed} names other packs")
        self.secret = bytes.fromhex(self.manifest["row_secret"])
        require(vault.keys is None or self.secret == vault.keys.rows, f"{sealed} has another row secret")
        self.index = None
        if vault.keys and "index_inline" in marker:
            with tempfile.TemporaryDirectory() as own:
                path = Path(own) / "index.age"
                path.write_bytes(base64.b64decode(marker["index_inline"]))
                self.index = self.read_index(vault.stored(marker["index"], path))
        elif vault.keys:
            self.index = self.read_index(vault.stored(marker["index"], folder / "index.age"))

    def check_times(self):
        """The id says when the backup began, its class and how many hours it is kept; the marker agrees."""
        time, kept, _ = self.name.split("-")
        began, ends = moment(self.marker["created_at"]), moment(self.marker["expires_at"])
        require(began.strftime(STAMP) == time, f"{self.name} began at another time")
        require(ends - began == datetime.timedelta(hours=int(kept[1:-1])), f"{self.name} expires at another time")
        require(self.marker["class"] == CLASSES[kept[0]], f"{self.name} has another class")

    def read_index(self, path):
        index = json.loads(unzstd(open_file(path, self.vault.keys.index_identity)))
        self.vault.is_ours(index["vault"], path)
        chunks = len(base64.b64decode(index["chunks"])) // 44
        for sha256 in index["segments"]:
            segment = json.loads(unzstd(open_file(self.vault.packs[sha256], self.vault.keys.index_identity)))
            chunks += len(base64.b64decode(segment["chunks"])) // 44
        require({s["sha256"] for s in self.marker["segments"]} == set(index["segments"]), f"{path} names other segments")
        return {"chunks": chunks, "segments": len(index["segments"]), "packs": len(index["packs"])}

    def part(self, part):
        """The bytes of a part, after rows, bytes and checksum have been compared."""
        data, rows, total, number = [], 0, 0, 0
        for pack, offset, length in part["runs"]:
            reference = self.manifest["packs"][pack]
            plain, borders = self.vault.pack(reference["sha256"], reference["epoch"])
            require(offset in borders and offset + length in borders, f"a run of {part['name']} ends within a chunk")
            for start, end in zip(borders, borders[1:]):
                if not (offset <= start and end <= offset + length):
                    continue
                chunk = plain[start:end]
                data.append(chunk)
                if part["kind"] == "rows":
                    require(chunk.endswith(b"\n"), f"a chunk of {part['name']} ends within a row")
                    lines = chunk.split(b"\n")[:-1]
                    rows += len(lines)
                    total += sum(xxh3_128(line + b"\n", self.secret) for line in lines)
                else:
                    turn, value = number % 127, xxh3_128(chunk, self.secret)
                    total += (value << turn | value >> (128 - turn)) + number
                    number += 1
        data = b"".join(data)
        require(len(data) == part["bytes"], f"{part['name']} has {len(data)} bytes instead of {part['bytes']}")
        require(f"{total % (1 << 128):032x}" == part["sum"], f"the checksum of {part['name']} is another")
        require(part["kind"] != "rows" or rows == part["rows"], f"{part['name']} has {rows} rows instead of {part['rows']}")
        return data

    def tables(self):
        """The rows of every table, its pieces joined: schema-qualified name to COPY text."""
        details, parts = self.manifest["description"]["details"], {p["name"]: p for p in self.manifest["parts"]}
        for relation in details["relations"]:
            pieces = relation["pieces"]
            names = [f"table:{relation['id']}"] if pieces == 1 else [f"table:{relation['id']}/{n}" for n in range(pieces)]
            yield f"{relation['schema']}.{relation['name']}", b"".join(self.part(parts[name]) for name in names)

    def summary(self):
        parts = []
        for part in self.manifest["parts"]:
            data = self.part(part)
            facts = {key: part[key] for key in ("name", "kind", "rows", "bytes", "sum")}
            parts.append(facts | {"sha256": hashlib.sha256(data).hexdigest()})
        tables = {}
        for name, text in self.tables():
            lines = sorted(text.split(b"\n")[:-1])
            tables[name] = {"rows": len(lines), "sorted_sha256": hashlib.sha256(b"".join(l + b"\n" for l in lines)).hexdigest()}
        marker = self.marker
        require(sum(p["bytes"] for p in parts) == marker["read_bytes"], f"{self.name} counts other bytes")
        require(sum(p["rows"] for p in parts if p["kind"] == "rows") == marker["rows"], f"{self.name} counts other rows")
        keys = ("id", "class", "created_at", "expires_at", "rows", "read_bytes", "stored_bytes", "run_id", "engine", "parent")
        return {key: marker[key] for key in keys} | {"parts": parts, "tables": tables, "index": self.index}


def moment(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def check_parents(backups):
    """Each marker names the hash of its parent's bytes."""
    known = {backup.name: backup for backup in backups}
    for backup in backups:
        parent = backup.marker["parent"]
        if parent and parent["id"] in known:
            path = backup.vault.folder / "backups" / parent["id"] / "backup.json"
            require(hashlib.sha256(path.read_bytes()).hexdigest() == parent["sha256"], f"the parent of {backup.name} is another")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--repository", required=True, type=Path)
    arguments.add_argument("--identity", required=True, type=Path)
    arguments.add_argument("--repository-key", type=Path)
    arguments.add_argument("--vault")
    arguments.add_argument("--table")
    given = arguments.parse_args()
    key = read_repository_key(given.repository_key) if given.repository_key else None
    repository = Repository(given.repository, given.identity, key)
    if given.table:
        vault = next(v for v in repository.vaults() if f"{v.kind}/{v.name}" == given.vault)
        rows = dict(Backup(vault, vault.backups()[-1]).tables())
        sys.stdout.buffer.write(rows[given.table])
        return
    found = []
    for vault in repository.vaults():
        backups = [Backup(vault, name) for name in vault.backups()]
        check_parents(backups)
        target = {"kind": vault.kind, "name": vault.name}
        found.append({"target": target, "epochs": sorted(vault.identities), "backups": [b.summary() for b in backups]})
    reports = len(repository.reports())
    answer = {"repository": repository.id.hex(), "verified": key is not None, "vaults": found, "reports": reports}
    json.dump(answer, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    try:
        main()
    except (Wrong, KeyError, IndexError, OSError, ValueError) as error:
        sys.exit(f"reader.py: {type(error).__name__}: {error}")
