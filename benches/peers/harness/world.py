"""What every peer works in: users with their tokens, keys, certificates, ports, and processes with their own accounts."""

import base64
import dataclasses
import json
import os
import pathlib
import signal
import socket
import subprocess
import time

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

import datetime

ISSUER = "https://issuer.example.org"
AUDIENCE = "bench"
TICKS = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@dataclasses.dataclass
class World:
    folder: pathlib.Path
    users: int
    proxy_core: int
    load_core: int
    upstream: int = 0
    websocket: int = 0

    def __post_init__(self):
        self.folder.mkdir(parents=True, exist_ok=True)
        self.upstream, self.websocket = free_port(), free_port()
        self._make_tokens()
        self._make_certificate()

    def user(self, number):
        return f"user{number}"

    def secret(self, number):
        return f"sk-{number:016x}"

    def path(self, name):
        return self.folder / name

    def _make_tokens(self):
        """RS256 tokens of about 570 bytes, one for each user, good for a day."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        numbers = key.public_key().public_numbers()
        jwk = {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "bench",
               "n": b64(numbers.n.to_bytes(256, "big")), "e": b64(numbers.e.to_bytes(3, "big"))}
        self.jwks = json.dumps({"keys": [jwk]})
        self.path("jwks.json").write_text(self.jwks)
        public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        self.path("public.pem").write_bytes(public)
        self._key, self._head = key, b64(json.dumps({"alg": "RS256", "typ": "JWT", "kid": "bench"}).encode())
        self._made = 0
        self.tokens = [self._token(number) for number in range(self.users)]
        self.path("tokens").write_text("\n".join(self.tokens) + "\n")

    def _token(self, number, **more):
        now = int(time.time())
        user = self.user(number)
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": user, "iat": now - 60, "exp": now + 86400,
                  "preferred_username": user, "email": f"{user}@example.org", "groups": ["bench"], **more}
        signed = f"{self._head}.{b64(json.dumps(claims).encode())}"
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{b64(signature)}"

    def fresh_tokens(self, count):
        """A file of so many tokens of the users, none of which any peer has seen."""
        with self.path("fresh").open("w") as file:
            for number in range(count):
                self._made += 1
                file.write(self._token(number % self.users, jti=str(self._made)) + "\n")
        return self.path("fresh")

    def _make_certificate(self):
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(hours=1))
        builder = builder.not_valid_after(now + datetime.timedelta(days=2))
        names = x509.SubjectAlternativeName([x509.DNSName("localhost")])
        certificate = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
        pem = certificate.public_bytes(serialization.Encoding.PEM)
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                                    serialization.NoEncryption())
        self.path("cert.pem").write_bytes(pem)
        self.path("key.pem").write_bytes(private)
        self.path("both.pem").write_bytes(pem + private)
        os.chmod(self.path("key.pem"), 0o600)

    def start_upstream(self, binary):
        words = [binary, "--http", self.upstream, "--websocket", self.websocket, "--jwks", self.path("jwks.json")]
        process = Process("upstream", words, self.load_core, self.folder)
        process.listens(self.upstream)
        return process


class Process:
    """A process of ours on one core, ended by its id and by nothing else."""

    def __init__(self, name, words, core, folder, env=None):
        self.name = name
        self.log = folder / f"{name}.log"
        self.child = subprocess.Popen(["taskset", "-c", str(core), *map(str, words)], cwd=folder, stdin=subprocess.DEVNULL,
                                      stdout=self.log.open("ab"), stderr=subprocess.STDOUT, env=env)

    def listens(self, port, seconds=60):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.child.poll() is not None:
                raise RuntimeError(f"{self.name} ended:\n{self.log.read_text()[-2000:]}")
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"{self.name} does not listen:\n{self.log.read_text()[-2000:]}")

    def pids(self):
        """The process and all that it started."""
        found, todo = [], [self.child.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
                try:
                    todo += map(int, task.read_text().split())
                except OSError:
                    pass
        return found

    def cpu(self):
        """Seconds in user space and in the system so far."""
        user = system = 0
        for pid in self.pids():
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            user, system = user + int(fields[11]), system + int(fields[12])
        return user / TICKS, system / TICKS

    def ran(self):
        """Seconds so far, exactly, of the threads that there are."""
        tasks = [task for pid in self.pids() for task in pathlib.Path(f"/proc/{pid}/task").iterdir()]
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9

    def memory(self):
        """Bytes that are this peer's own, shared pages divided among those who share them."""
        total = 0
        for pid in self.pids():
            for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += int(line.split()[1]) * 1024
        return total

    def end(self):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(10)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
