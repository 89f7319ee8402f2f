# Managed by socle. Makes the first user from the answers on standard input; users that exist stay.
import json
import os
import sys

from passlib.hash import sha512_crypt

USERS = {{ data ~ "/users" }}

answers = json.load(sys.stdin)
if not answers["admin"] or any(c in answers["admin"] for c in ":/\n"):
    sys.exit("the first user's login is empty or has a `:` or `/` in it")
if not os.path.exists(USERS):
    with open(USERS + ".new", "w", encoding="utf-8") as new:
        os.fchmod(new.fileno(), 0o600)
        new.write(f"{answers['admin']}:{sha512_crypt.hash(answers['password'])}\n")
        new.flush()
        os.fsync(new.fileno())
    os.rename(USERS + ".new", USERS)
print("users are there")
