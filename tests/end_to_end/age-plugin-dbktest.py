#!/usr/bin/env python3
"""A plugin of age for the tests: it wraps file keys by a constant, and so protects nothing."""
import base64
import sys

MASK = bytes(range(100, 116))


def mask(key):
    return bytes(a ^ b for a, b in zip(key, MASK))


def receive():
    """One stanza: its words, and its body, which ends with a line of fewer than 64 characters."""
    words = sys.stdin.readline().split()[1:]
    body = ""
    while True:
        line = sys.stdin.readline().rstrip("\n")
        body += line
        if len(line) < 64:
            return words, base64.b64decode(body + "=" * (-len(body) % 4))


def send(words, body=b""):
    text = base64.b64encode(body).decode().rstrip("=")
    sys.stdout.write("-> " + " ".join(words) + "\n" + text + "\n")
    sys.stdout.flush()


def received():
    stanzas = []
    while True:
        words, body = receive()
        if words[0] == "done":
            return stanzas
        stanzas.append((words, body))


stanzas = received()
if sys.argv[1] == "--age-plugin=recipient-v1":
    keys = [body for words, body in stanzas if words[0] == "wrap-file-key"]
    for number, key in enumerate(keys):
        send(["recipient-stanza", str(number), "dbktest"], mask(key))
        receive()
elif sys.argv[1] == "--age-plugin=identity-v1":
    for words, body in stanzas:
        if words[0] == "recipient-stanza" and words[2] == "dbktest":
            send(["file-key", words[1]], mask(body))
            receive()
send(["done"])
