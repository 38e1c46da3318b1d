"""Certificates for TLS, and a token with the keys that prove it; made anew for each run."""
import base64
import json
import subprocess
import time

ISSUER = "https://issuer.bench.example"


def certificates(folder):
    """An authority, and a certificate of it for 127.0.0.1 and localhost."""
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "7"]
    openssl(folder, "req", "-x509", *curve, "-keyout", "authority.key", "-out", "authority.pem", "-subj", "/CN=bench authority")
    openssl(
        folder, "req", "-x509", *curve, "-keyout", "server.key", "-out", "server.pem", "-subj", "/CN=localhost",
        "-CA", "authority.pem", "-CAkey", "authority.key",
        "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE",
    )
    # haproxy wants both in one file.
    with open(f"{folder}/both.pem", "wb") as both:
        for part in ("server.pem", "server.key"):
            with open(f"{folder}/{part}", "rb") as file:
                both.write(file.read())


def token(folder):
    """A JWT that is good for a day; its key is in jwks.json."""
    openssl(folder, "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", "jwt.key")
    modulus = openssl(folder, "rsa", "-in", "jwt.key", "-noout", "-modulus").decode().strip().partition("=")[2]
    key = {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "bench", "n": encoded(bytes.fromhex(modulus)), "e": "AQAB"}
    with open(f"{folder}/jwks.json", "w", encoding="utf-8") as out:
        json.dump({"keys": [key]}, out)
    head = {"alg": "RS256", "typ": "JWT", "kid": "bench"}
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": "bench", "sub": "reader", "iat": now, "exp": now + 86_400}
    signed = ".".join(encoded(json.dumps(part).encode()) for part in (head, claims))
    signature = openssl(folder, "dgst", "-sha256", "-sign", "jwt.key", given=signed.encode())
    return f"{signed}.{encoded(signature)}"


def encoded(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def openssl(folder, *arguments, given=None):
    done = subprocess.run(["openssl", *arguments], cwd=folder, input=given, capture_output=True, timeout=60, check=True)
    return done.stdout
