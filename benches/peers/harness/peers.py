"""The other proxies, each set up as its documentation says for one core and kept connections.

A peer listens with and without TLS, forwards `/bench/echo/*` to the upstream without that prefix, and `/bench/ws` to the
WebSocket echo. Those named "full" do carta-gateway's job as far as they can: verify the token, ask whether this user may,
put the user's own key on, take the token off.
"""

import copy
import json
import os
import resource

from .world import AUDIENCE, ISSUER, Process, free_port


class Peer:
    """A running proxy: `plain` and `tls` are its ports."""

    #: Whether each call has a token of its own.
    fresh = False

    def __init__(self, name, world, words, env=None):
        self.name, self.process = name, Process(name, words, world.proxy_core, world.folder, env)

    def started(self):
        self.process.listens(self.plain)
        return self

    def called(self, name):
        self.name = name
        return self

    def with_fresh_tokens(self, name):
        """The same process, asked with a new token each time."""
        again = copy.copy(self).called(name)
        again.fresh = True
        return again


def nginx(world, name, log=False, auth=False):
    plain, tls = free_port(), free_port()
    check = "auth_request /auth;" if auth else ""
    access = f"{world.path(name + '.access')} combined buffer=64k flush=1s" if log else "off"
    auth_location = f"""
        location = /auth {{ internal; proxy_pass http://upstream/auth; proxy_pass_request_body off;
            proxy_set_header Content-Length ""; proxy_http_version 1.1; proxy_set_header Connection ""; }}""" if auth else ""
    config = world.path(f"{name}.conf")
    config.write_text(f"""
user root;
daemon off;
worker_processes 1;
worker_rlimit_nofile 65536;
pid {world.path(name + '.pid')};
error_log {world.path(name + '.errors')} warn;
events {{ worker_connections 32768; }}
http {{
    access_log {access};
    keepalive_requests 1000000000;
    keepalive_timeout 600s;
    client_body_temp_path {world.path(name + '.body')};
    proxy_temp_path {world.path(name + '.proxy')};
    fastcgi_temp_path {world.path(name + '.fastcgi')};
    uwsgi_temp_path {world.path(name + '.uwsgi')};
    scgi_temp_path {world.path(name + '.scgi')};
    client_max_body_size 0;
    proxy_request_buffering off;
    ssl_protocols TLSv1.3;
    ssl_certificate {world.path('cert.pem')};
    ssl_certificate_key {world.path('key.pem')};
    upstream upstream {{ server 127.0.0.1:{world.upstream}; keepalive 256; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{plain} backlog=4096;
        listen 127.0.0.1:{tls} ssl http2 backlog=4096;
        http2_max_requests 1000000000;
        {auth_location}
        location /bench/echo/ {{ {check} proxy_pass http://upstream/; proxy_http_version 1.1;
            proxy_set_header Connection ""; }}
        location /bench/ws {{ {check} proxy_pass http://127.0.0.1:{world.websocket}/; proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; }}
    }}
}}
""")
    peer = Peer(name, world, ["nginx", "-p", world.folder, "-c", config])
    peer.plain, peer.tls = plain, tls
    return peer.started()


def haproxy(world, name, full=False):
    plain, tls = free_port(), free_port()
    world.path("grants.map").write_text("".join(f"{world.user(n)}/bench allow\n" for n in range(world.users)))
    world.path("secrets.map").write_text("".join(f"{world.user(n)} {world.secret(n)}\n" for n in range(world.users)))
    checks = f"""
    http-request set-var(txn.bearer) http_auth_bearer
    http-request set-var(txn.alg) var(txn.bearer),jwt_header_query('$.alg')
    http-request deny deny_status 401 unless {{ var(txn.alg) -m str RS256 }}
    http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_verify(txn.alg,"{world.path('public.pem')}") -m int 1 }}
    http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_payload_query('$.iss') -m str {ISSUER} }}
    http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_payload_query('$.aud') -m str {AUDIENCE} }}
    http-request set-var(txn.now) date()
    http-request deny deny_status 401 if {{ var(txn.bearer),jwt_payload_query('$.exp','int'),sub(txn.now) -m int lt 0 }}
    http-request set-var(txn.user) var(txn.bearer),jwt_payload_query('$.sub')
    http-request set-var(txn.asked) var(txn.user),concat(/bench)
    http-request deny deny_status 403 unless {{ var(txn.asked),map({world.path('grants.map')}) -m str allow }}
    http-request set-header X-Api-Key %[var(txn.user),map({world.path('secrets.map')})]
    http-request del-header Authorization
""" if full else ""
    config = world.path(f"{name}.cfg")
    config.write_text(f"""
global
    nbthread 1
    maxconn {haproxy_connections()}
    tune.ssl.default-dh-param 2048
    ssl-default-bind-options ssl-min-ver TLSv1.3
defaults
    mode http
    option http-keep-alive
    http-reuse always
    timeout connect 5s
    timeout client 600s
    timeout server 600s
    timeout tunnel 600s
    timeout http-keep-alive 600s
frontend calls
    bind 127.0.0.1:{plain}
    bind 127.0.0.1:{tls} ssl crt {world.path('both.pem')} alpn h2,http/1.1
    {checks}
    http-request replace-path /bench/echo/(.*) /\\1
    use_backend websocket if {{ path /bench/ws }}
    default_backend upstream
backend upstream
    server one 127.0.0.1:{world.upstream} pool-max-conn 256
backend websocket
    server one 127.0.0.1:{world.websocket}
""")
    peer = Peer(name, world, ["haproxy", "-f", config, "-db"])
    peer.plain, peer.tls = plain, tls
    return peer.started()


def haproxy_connections():
    """As many as the limit of open files lets it have: it counts two for each."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(30_000, (soft - 100) // 2)


def envoy(world, name, binary, full=False):
    plain, tls = free_port(), free_port()
    filters = []
    if full:
        provider = {"issuer": ISSUER, "audiences": [AUDIENCE], "local_jwks": {"inline_string": world.jwks},
                    "payload_in_metadata": "claims", "jwt_cache_config": {"jwt_cache_size": world.users}}
        filters.append({"name": "envoy.filters.http.jwt_authn", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
            "providers": {"bench": provider},
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "bench"}}]}})
        # By a group of the token: a list of a thousand users would be searched from its start at every call.
        path = [{"key": "claims"}, {"key": "groups"}]
        member = {"metadata": {"filter": "envoy.filters.http.jwt_authn", "path": path,
                               "value": {"list_match": {"one_of": {"string_match": {"exact": "bench"}}}}}}
        filters.append({"name": "envoy.filters.http.rbac", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC",
            "rules": {"action": "ALLOW", "policies": {"bench": {
                "permissions": [{"url_path": {"path": {"prefix": "/bench/"}}}], "principals": [member]}}}}})
    filters.append({"name": "envoy.filters.http.router", "typed_config": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        "suppress_envoy_headers": True}})

    def manager(stat):
        return {"name": "envoy.filters.network.http_connection_manager", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": stat, "generate_request_id": False, "upgrade_configs": [{"upgrade_type": "websocket"}],
            "common_http_protocol_options": {"idle_timeout": "600s"}, "http_filters": filters,
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
                {"match": {"path": "/bench/ws"}, "route": {"cluster": "websocket", "timeout": "0s"}},
                {"match": {"prefix": "/bench/echo/"},
                 "route": {"cluster": "upstream", "prefix_rewrite": "/", "timeout": "0s"}}]}]}}}

    def listener(port, tls_context=None):
        chain = {"filters": [manager(f"p{port}")]}
        if tls_context:
            chain["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": tls_context}
        return {"name": f"p{port}", "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
                "filter_chains": [chain]}

    def cluster(name, port):
        return {"name": name, "type": "STATIC", "connect_timeout": "5s",
                "circuit_breakers": {"thresholds": [{"max_connections": 30000, "max_requests": 30000,
                                                     "max_pending_requests": 30000}]},
                "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}}]}]}}

    context = {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
               "common_tls_context": {
                   "alpn_protocols": ["h2", "http/1.1"],
                   "tls_params": {"tls_minimum_protocol_version": "TLSv1_3"},
                   "tls_certificates": [{"certificate_chain": {"filename": str(world.path("cert.pem"))},
                                         "private_key": {"filename": str(world.path("key.pem"))}}]}}
    config = world.path(f"{name}.json")
    config.write_text(json.dumps({"static_resources": {
        "listeners": [listener(plain), listener(tls, context)],
        "clusters": [cluster("upstream", world.upstream), cluster("websocket", world.websocket)]}}))
    words = [binary, "-c", config, "--concurrency", "1", "--disable-hot-restart", "--log-level", "error"]
    peer = Peer(name, world, words)
    peer.plain, peer.tls = plain, tls
    return peer.started()


def caddy(world, name):
    plain, tls = free_port(), free_port()
    config = world.path(f"{name}.caddy")
    site = f"""
    handle_path /bench/echo/* {{
        reverse_proxy 127.0.0.1:{world.upstream} {{
            transport http {{
                keepalive_idle_conns 256
                keepalive_idle_conns_per_host 256
            }}
        }}
    }}
    handle /bench/ws {{
        reverse_proxy 127.0.0.1:{world.websocket}
    }}"""
    config.write_text(f"""
{{
    admin off
    auto_https off
}}
http://127.0.0.1:{plain} {{{site}
}}
https://localhost:{tls} {{
    bind 127.0.0.1
    tls {world.path('cert.pem')} {world.path('key.pem')} {{
        protocols tls1.3
    }}{site}
}}
""")
    env = dict(os.environ, GOMAXPROCS="1", HOME=str(world.folder), XDG_DATA_HOME=str(world.folder))
    peer = Peer(name, world, ["caddy", "run", "--config", config, "--adapter", "caddyfile"], env)
    peer.plain, peer.tls = plain, tls
    return peer.started()


def pingora(world, name, binary):
    plain = free_port()
    peer = Peer(name, world, [binary, plain, world.upstream])
    peer.plain, peer.tls = plain, None
    return peer.started()
