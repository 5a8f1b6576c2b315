# A small image: the binary and the certificates of public authorities, as nobody, on a root that may be read-only.
#
#   docker build -t carta-gateway .
#   docker run --read-only --cap-drop ALL -v carta:/var/lib/carta -v ./gateway.toml:/etc/carta/gateway.toml:ro carta-gateway

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev make \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --release --locked \
    && install -D target/release/carta-gateway /out/usr/local/bin/carta-gateway \
    && install -d -o 65532 -g 65532 /out/var/lib/carta

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build --chown=65532:65532 /out/var/lib/carta /var/lib/carta
COPY --from=build /out/usr/local/bin/carta-gateway /usr/local/bin/carta-gateway
USER 65532:65532
WORKDIR /var/lib/carta
ENV CARTA_GATEWAY_CONFIG=/etc/carta/gateway.toml
EXPOSE 8080 8081
STOPSIGNAL SIGTERM
# The binary asks its own listener: the image has no shell and no curl.
HEALTHCHECK --interval=10s --timeout=3s --start-period=15s --retries=3 CMD ["/usr/local/bin/carta-gateway", "health"]
ENTRYPOINT ["/usr/local/bin/carta-gateway"]
CMD ["serve"]
