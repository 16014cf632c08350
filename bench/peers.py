"""The servers that are compared: how each is configured, started and asked for its version.

Every one gets a certificate for each name and one worker; beyond that its defaults. A
server *answers* itself where it can, which is the least it can do, or *relays* to the
backend, which is what a TLS front end is for.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from bench import processes
from bench.load import free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from bench.sites import Sites

Json = Any
"""What ``json.dumps`` takes."""

BODY = "sixteen bytes ok"
_MODULES = "/usr/lib/nginx/modules"
_POLL_S = 0.005
_VERSION = re.compile(r"\d+\.\d+\.\d+\S*")


@dataclass(frozen=True, slots=True)
class Plan:
    """What one server is to serve.

    Attributes:
        root: an empty folder for its configuration and whatever it writes.
        sites: names and certificates.
        port: where it listens, on loopback.
        backend_port: where those that relay connect to.
        options: for Centcert: more arguments of ``centcert serve``.
        store: for Centcert: another store than the folder of ``sites``.
    """

    root: Path
    sites: Sites
    port: int
    backend_port: int
    options: tuple[str, ...] = ()
    store: str | None = None


Commands = list[list[str]]
"""Programs to start; the last is the server, those before are what it asks."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A server with one way to configure it.

    Attributes:
        name: in the tables.
        version: the command that prints its version.
        prepare: writes its configuration, returns the commands.
    """

    name: str
    version: tuple[str, ...]
    prepare: Callable[[Plan], Commands]

    def read_version(self) -> str:
        """Return the program's name and version."""
        ran = subprocess.run(self.version, capture_output=True, text=True, check=True)  # noqa: S603
        return f"{re.split('[, ]', self.name)[0]} {_VERSION.findall(ran.stdout + ran.stderr)[0]}"


class Running:
    """A server that runs on its core, while the block does.

    Attributes:
        peer: what it is.
        port: where it listens.
        root: its folder.
        started_s: from its start to its first handshake, in seconds.
    """

    def __init__(
        self, peer: Peer, plan: Plan, cores: Sequence[int], *, patience_s: float = 30.0
    ) -> None:
        """Start it and wait for the first handshake.

        Raises:
            TimeoutError: none succeeded in time; holds the last lines that it wrote.
        """
        self.peer = peer
        self.port = plan.port
        self.root = plan.root
        self._plan = plan
        self._started: list[subprocess.Popen[bytes]] = []
        plan.root.mkdir(parents=True, exist_ok=True)
        self._log = plan.root / "output"
        commands = peer.prepare(plan)
        began = time.monotonic()
        try:
            with self._log.open("wb") as output:
                for command in commands:
                    self._started.append(
                        processes.start(command, cores, output, _environment(plan.root))
                    )
            self._wait(began + patience_s)
        except BaseException:
            self.stop()
            raise
        self.started_s = time.monotonic() - began

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pids(self) -> list[int]:
        """All its processes."""
        return [pid for process in self._started for pid in processes.tree(process.pid)]

    def cpu_us(self, patience_s: float = 3.0) -> float:
        """Return the CPU time it has used when it has come to rest."""
        return processes.settled_cpu_us(self.pids, patience_s)

    def memory_bytes(self) -> int:
        """Return its memory now."""
        return processes.memory_bytes(self.pids)

    def stop(self) -> None:
        """End it."""
        for process in reversed(self._started):
            processes.stop(process)
        self._started.clear()

    def _wait(self, end: float) -> None:
        with self._plan.sites.names_file.open() as names:
            name = next(names).strip()
        while not shakes_hands(self.port, name):
            if self._started[-1].poll() is not None or time.monotonic() > end:
                words = self._log.read_text(errors="replace")[-800:]
                raise TimeoutError(f"{self.peer.name} does not serve {name}: {words}")
            time.sleep(_POLL_S)


def shakes_hands(port: int, name: str) -> bool:
    """Say whether a server serves this name, with a certificate that covers it."""
    return served_certificate(port, name) is not None


def served_certificate(port: int, name: str, timeout_s: float = 5.0) -> bytes | None:
    """Return the leaf, as DER, that a server serves for a name; ``None`` if it does not."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the load client looks at the names
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), timeout_s) as plain,
        context.wrap_socket(plain, server_hostname=name) as tls,
    ):
        return tls.getpeercert(binary_form=True)
    return None


# --- nginx ------------------------------------------------------------------------


def nginx_static(plan: Plan) -> Commands:
    """One server block for each name, as people write them."""
    return _nginx(plan, _http(_blocks(plan, f'return 200 "{BODY}";')))


def nginx_variable(plan: Plan) -> Commands:
    """The name is part of the file's name; nginx opens it at each full handshake."""
    block = f"""server {{
        listen 127.0.0.1:{plan.port} ssl;
        ssl_certificate {plan.sites.folder}/$ssl_server_name.pem;
        ssl_certificate_key {plan.sites.folder}/$ssl_server_name.pem;
        location / {{ return 200 "{BODY}"; }}
    }}"""
    return _nginx(plan, _http(block))


def nginx_lua(plan: Plan) -> Commands:
    """Certificates are read by Lua at their first handshake, and kept parsed."""
    fallback = plan.sites.files[0]
    block = f"""init_by_lua_block {{
        kept = require("resty.lrucache").new({max(1000, plan.sites.count)})
    }}
    server {{
        listen 127.0.0.1:{plan.port} ssl;
        ssl_certificate {fallback};
        ssl_certificate_key {fallback};
        ssl_certificate_by_lua_block {{
            local ssl = require("ngx.ssl")
            local name = ssl.server_name()
            if not name then return ngx.exit(ngx.ERROR) end
            local pair = kept:get(name)
            if not pair then
                local file = io.open("{plan.sites.folder}/" .. name .. ".pem", "rb")
                if not file then return ngx.exit(ngx.ERROR) end
                local pem = file:read("*a")
                file:close()
                pair = {{ssl.parse_pem_cert(pem), ssl.parse_pem_priv_key(pem)}}
                kept:set(name, pair)
            end
            ssl.clear_certs()
            ssl.set_cert(pair[1])
            ssl.set_priv_key(pair[2])
        }}
        location / {{ return 200 "{BODY}"; }}
    }}"""
    return _nginx(plan, _http(block), "ndk_http_module", "ngx_http_lua_module")


def nginx_proxy(plan: Plan) -> Commands:
    """The static certificates, and HTTP to the backend over connections that are kept."""
    upstream = f"upstream backend {{ server 127.0.0.1:{plan.backend_port}; keepalive 64; }}\n"
    location = 'proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection "";'
    return _nginx(plan, _http(upstream + _blocks(plan, location)))


def nginx_stream(plan: Plan) -> Commands:
    """Bytes to the backend, whatever they are; certificates by variable, which is all it has.

    Its handshakes read files, so only what comes after them is compared.
    """
    text = f"""stream {{
    ssl_protocols TLSv1.2 TLSv1.3;
    server {{
        listen 127.0.0.1:{plan.port} ssl;
        ssl_certificate {plan.sites.files[0]};
        ssl_certificate_key {plan.sites.files[0]};
        proxy_pass 127.0.0.1:{plan.backend_port};
    }}
}}"""
    return _nginx(plan, text, "ngx_stream_module")


def _blocks(plan: Plan, location: str) -> str:
    blocks = [
        f"""server {{ listen 127.0.0.1:{plan.port} ssl; server_name {name};
        ssl_certificate {file}; ssl_certificate_key {file};
        location / {{ {location} }} }}"""
        for name, file in zip(plan.sites.names, plan.sites.files, strict=True)
    ]
    return "\n".join(blocks)


def _http(blocks: str) -> str:
    return f"""http {{
    access_log off;
    ssl_protocols TLSv1.2 TLSv1.3;
    keepalive_requests 10000000;
    server_names_hash_max_size 1048576;
    server_names_hash_bucket_size 128;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    {blocks}
}}"""


def _nginx(plan: Plan, text: str, *modules: str) -> Commands:
    lines = [f"load_module {_MODULES}/{module}.so;" for module in modules]
    lines += ["user root;"] if os.geteuid() == 0 else []  # who may read the scratch folder
    lines += [
        "daemon off;",
        "worker_processes 1;",
        "worker_rlimit_nofile 20000;",
        "pid nginx.pid;",
        "error_log error.log error;",
        "events { worker_connections 16384; }",
        text,
    ]
    file = plan.root / "nginx.conf"
    file.write_text("\n".join(lines))
    return [["nginx", "-p", str(plan.root), "-e", "error.log", "-c", str(file)]]


# --- HAProxy, hitch ---------------------------------------------------------------


def haproxy_http(plan: Plan) -> Commands:
    """It answers itself."""
    answer = f'http-request return status 200 content-type text/plain string "{BODY}"'
    return _haproxy(plan, "http", answer)


def haproxy_tcp(plan: Plan) -> Commands:
    """It relays bytes."""
    return _haproxy(plan, "tcp", f"default_backend b\nbackend b\n  server b {_backend(plan)}")


def _haproxy(plan: Plan, mode: str, rest: str) -> Commands:
    file = plan.root / "haproxy.cfg"
    file.write_text(
        f"""global
  nbthread 1
  maxconn 8000
defaults
  mode {mode}
  timeout client 60s
  timeout server 60s
  timeout connect 5s
frontend f
  bind 127.0.0.1:{plan.port} ssl crt {plan.sites.folder}
  {rest}
"""
    )
    return [["haproxy", "-db", "-f", str(file)]]


def hitch(plan: Plan) -> Commands:
    """It relays bytes; it can do nothing else."""
    file = plan.root / "hitch.conf"
    user = 'user = "nobody"' if os.geteuid() == 0 else ""  # it refuses to be root
    file.write_text(
        f"""{user}
frontend = "[127.0.0.1]:{plan.port}"
backend = "[127.0.0.1]:{plan.backend_port}"
pem-dir = "{plan.sites.folder}/"
workers = 1
daemon = off
tls-protos = TLSv1.2 TLSv1.3
"""
    )
    return [["hitch", f"--config={file}", "--quiet"]]


# --- Caddy ------------------------------------------------------------------------


def caddy_static(plan: Plan) -> Commands:
    """All certificates are loaded at its start; it answers itself."""
    return _caddy(plan, {"certificates": {"load_folders": [str(plan.sites.folder)]}}, _CADDY_ANSWER)


def caddy_proxy(plan: Plan) -> Commands:
    """The same, and HTTP to the backend."""
    proxy = {"handler": "reverse_proxy", "upstreams": [{"dial": _backend(plan)}]}
    return _caddy(plan, {"certificates": {"load_folders": [str(plan.sites.folder)]}}, proxy)


def caddy_asking(plan: Plan) -> Commands:
    """It asks a server at each full handshake (``get_certificate http``)."""
    asked = free_port()
    url = f"http://127.0.0.1:{asked}/"
    policy = {"get_certificate": [{"via": "http", "url": url}], "on_demand": False}
    server = [sys.executable, "-m", "bench.certificate_server", str(asked), str(plan.sites.folder)]
    return [server, *_caddy(plan, {"automation": {"policies": [policy]}}, _CADDY_ANSWER)]


_CADDY_ANSWER = {"handler": "static_response", "status_code": "200", "body": BODY}


def _caddy(plan: Plan, tls: Json, handler: Json) -> Commands:
    server = {
        "listen": [f"127.0.0.1:{plan.port}"],
        "protocols": ["h1"],
        "routes": [{"handle": [handler]}],
        "tls_connection_policies": [{}],
        "automatic_https": {"disable": True},
    }
    configuration = {
        "admin": {"disabled": True},
        "logging": {"logs": {"default": {"level": "ERROR"}}},
        "apps": {"tls": tls, "http": {"servers": {"bench": server}}},
    }
    file = plan.root / "caddy.json"
    file.write_text(json.dumps(configuration))
    return [["caddy", "run", "--config", str(file)]]


# --- Envoy ------------------------------------------------------------------------


def envoy_static(plan: Plan) -> Commands:
    """One filter chain for each name; it answers itself."""
    answer = {"status": 200, "body": {"inline_string": BODY}}
    route = {"match": {"prefix": "/"}, "direct_response": answer}
    manager = {
        "@type": f"{_ENVOY}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "codec_type": "HTTP1",
        "http_filters": [
            {
                "name": "router",
                "typed_config": {"@type": f"{_ENVOY}.http.router.v3.Router"},
            }
        ],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
    }
    return _envoy(plan, manager)


def envoy_tcp(plan: Plan) -> Commands:
    """It relays bytes."""
    relay = {
        "@type": f"{_ENVOY}.network.tcp_proxy.v3.TcpProxy",
        "stat_prefix": "bench",
        "cluster": "backend",
    }
    return _envoy(plan, relay)


_ENVOY = "type.googleapis.com/envoy.extensions.filters"
_ENVOY_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3"


def _envoy(plan: Plan, network_filter: Json) -> Commands:
    chains = [
        _envoy_chain(name, file, network_filter)
        for name, file in zip(plan.sites.names, plan.sites.files, strict=True)
    ]
    inspector = f"{_ENVOY}.listener.tls_inspector.v3.TlsInspector"
    listener = {
        "name": "bench",
        "address": _envoy_address(plan.port),
        "listener_filters": [{"name": "tls_inspector", "typed_config": {"@type": inspector}}],
        "filter_chains": chains,
    }
    endpoint = {"endpoint": {"address": _envoy_address(plan.backend_port)}}
    thresholds = {"max_connections": 20_000, "max_pending_requests": 20_000}
    cluster = {
        "name": "backend",
        "circuit_breakers": {"thresholds": [thresholds]},
        "load_assignment": {
            "cluster_name": "backend",
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    }
    file = plan.root / "envoy.json"
    file.write_text(
        json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster]}})
    )
    options = ["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    return [[_beside_python("envoy"), "--config-path", str(file), *options]]


def _envoy_chain(name: str, file: Path, network_filter: Json) -> Json:
    pair = {
        "certificate_chain": {"filename": str(file)},
        "private_key": {"filename": str(file)},
    }
    context = {
        "@type": f"{_ENVOY_TLS}.DownstreamTlsContext",
        # Its own default ends at TLS 1.2.
        "common_tls_context": {
            "tls_params": {
                "tls_minimum_protocol_version": "TLSv1_2",
                "tls_maximum_protocol_version": "TLSv1_3",
            },
            "tls_certificates": [pair],
        },
    }
    return {
        "filter_chain_match": {"server_names": [name]},
        "transport_socket": {"name": "tls", "typed_config": context},
        "filters": [{"name": "filter", "typed_config": network_filter}],
    }


def _envoy_address(port: int) -> Json:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


# --- Centcert ---------------------------------------------------------------------


def centcert_serve(plan: Plan) -> Commands:
    """The front end, as it is run: it relays bytes to the backend."""
    command = [sys.executable, "-m", "centcert", "serve"]
    command += ["--store", plan.store or str(plan.sites.folder)]
    command += ["--listen", f"127.0.0.1:{plan.port}", "--to", _backend(plan)]
    command += ["--state-folder", str(plan.root / "state")]
    command += ["--control", str(plan.root / "control.sock"), *plan.options]
    return [command]


def centcert_answering(plan: Plan) -> Commands:
    """``start_server`` with a protocol that answers."""
    command = [sys.executable, "-m", "bench.answering_server"]
    return [[*command, str(plan.port), str(plan.sites.folder)]]


# --- the floor ---------------------------------------------------------------------


def bare_loop(plan: Plan) -> Commands:
    """What Python and OpenSSL cost by themselves."""
    return [[sys.executable, "-m", "bench.bare_loop", str(plan.port), str(plan.sites.folder)]]


def bare_relay(plan: Plan) -> Commands:
    """The same with a backend."""
    return [[*bare_loop(plan)[0], str(plan.backend_port)]]


# --- all of them ------------------------------------------------------------------


def _beside_python(program: str) -> str:
    """Return a program of this environment, or the machine's."""
    folder = os.path.dirname(sys.executable)  # noqa: PTH120  not resolved: a link leads out of it
    return shutil.which(program, path=folder) or program


def _environment(root: Path) -> Mapping[str, str]:
    """Keep what a server writes at home out of there."""
    return {"HOME": str(root), "XDG_DATA_HOME": str(root), "XDG_CONFIG_HOME": str(root)}


def _backend(plan: Plan) -> str:
    return f"127.0.0.1:{plan.backend_port}"


_NGINX = ("nginx", "-v")
_HAPROXY = ("haproxy", "-v")
_CADDY = ("caddy", "version")
_ENVOY_VERSION = (_beside_python("envoy"), "--version")
_OPENSSL = (
    *(sys.executable, "-c"),
    "from OpenSSL import SSL; print(SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode())",
)
_CENTCERT = (sys.executable, "-m", "centcert", "--version")

NGINX = Peer("nginx", _NGINX, nginx_static)
NGINX_VARIABLE = Peer("nginx, $ssl_server_name", _NGINX, nginx_variable)
NGINX_LUA = Peer("nginx, Lua", _NGINX, nginx_lua)
NGINX_PROXY = Peer("nginx, HTTP proxy", _NGINX, nginx_proxy)
NGINX_STREAM = Peer("nginx, stream", _NGINX, nginx_stream)
HAPROXY = Peer("HAProxy", _HAPROXY, haproxy_http)
HAPROXY_TCP = Peer("HAProxy, TCP", _HAPROXY, haproxy_tcp)
HITCH = Peer("hitch", ("hitch", "--version"), hitch)
CADDY = Peer("Caddy", _CADDY, caddy_static)
CADDY_PROXY = Peer("Caddy, HTTP proxy", _CADDY, caddy_proxy)
CADDY_ASKING = Peer("Caddy, get_certificate", _CADDY, caddy_asking)
ENVOY = Peer("Envoy", _ENVOY_VERSION, envoy_static)
ENVOY_TCP = Peer("Envoy, TCP", _ENVOY_VERSION, envoy_tcp)
CENTCERT = Peer("Centcert serve", _CENTCERT, centcert_serve)
BARE_LOOP = Peer("OpenSSL, bare loop", _OPENSSL, bare_loop)
BARE_RELAY = Peer("OpenSSL, bare relay", _OPENSSL, bare_relay)
CENTCERT_ANSWERING = Peer("Centcert start_server", _CENTCERT, centcert_answering)

ALL: Sequence[Peer] = (
    NGINX,
    NGINX_VARIABLE,
    NGINX_LUA,
    NGINX_PROXY,
    NGINX_STREAM,
    HAPROXY,
    HAPROXY_TCP,
    HITCH,
    CADDY,
    CADDY_PROXY,
    CADDY_ASKING,
    ENVOY,
    ENVOY_TCP,
    BARE_LOOP,
    BARE_RELAY,
    CENTCERT,
    CENTCERT_ANSWERING,
)
