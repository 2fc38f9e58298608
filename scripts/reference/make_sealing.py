"""Makes test/fixtures/sealing.json: sealed messages and encrypted heads, made with the Python package `cryptography` 48.

    python3 scripts/reference/make_sealing.py

docs/protocol.md describes the formats. All bytes are in hex.
"""

import json
import os
import struct

from cryptography.hazmat.primitives import hpke
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SUITE = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.AES_256_GCM)
JOB = "5961704086b2eb0c461b5e0cbc9ac941d812ed5030a6c98b3b2e388faf5345ed"
AUTHOR = "12D3KooWJWoaqZhDaoEFshF7Rh1bpY9ohihFhzcW6d69Lr2NASuq"


def sealed(kind: str, content: bytes) -> dict:
    key = X25519PrivateKey.generate()
    info = b"\0".join([b"lora-swarm/2/sealed", kind.encode(), JOB.encode(), AUTHOR.encode()])
    message = SUITE.encrypt(content, key.public_key(), info=info)
    assert SUITE.decrypt(message, key, info=info) == content
    return {
        "kind": kind,
        "job": JOB,
        "author": AUTHOR,
        "privateKey": key.private_bytes_raw().hex(),
        "publicKey": key.public_key().public_bytes_raw().hex(),
        "content": content.hex(),
        "sealed": message.hex(),
    }


def head(key_id: int, content: bytes) -> dict:
    key, nonce = os.urandom(32), os.urandom(12)
    identifier = struct.pack(">I", key_id)
    associated = b"lora-swarm/2/head\0" + JOB.encode() + b"\0" + identifier
    return {
        "job": JOB,
        "id": key_id,
        "key": key.hex(),
        "nonce": nonce.hex(),
        "content": content.hex(),
        "encrypted": (identifier + nonce + AESGCM(key).encrypt(nonce, content, associated)).hex(),
    }


vectors = {
    "sealed": [
        sealed("heartbeat", b"a heartbeat"),
        sealed("update", bytes(range(256))),
        sealed("update", b""),
    ],
    "heads": [head(1, b"a head"), head(0x01020304, b""), head(0xFFFFFFFF, os.urandom(100))],
}
with open("test/fixtures/sealing.json", "w") as file:
    json.dump(vectors, file, indent=2)
    file.write("\n")
