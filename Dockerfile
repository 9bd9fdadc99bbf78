# The gateway, and for compose.yaml the simulator, each in a small image without a shell:
#
#     docker build --tag tickgate:0.1.0 .
#     docker build --tag tickgate-sim:0.1.0 --target simulator .
#
# The cache mounts need BuildKit, which is Docker's default since version 23.

# The release that rust-toolchain.toml pins.
ARG RUST_VERSION=1.95.0

# The live page, which the build below puts into the program.
FROM node:22-bookworm-slim AS page
WORKDIR /src
COPY clients/typescript clients/typescript
COPY dashboards/web dashboards/web
WORKDIR /src/dashboards/web
RUN npm ci --ignore-scripts --no-audit --no-fund && npm run build

# The full image, not the slim one: librdkafka is built here, with gcc, g++ and make.
FROM rust:${RUST_VERSION}-bookworm AS build
ARG RUST_VERSION
# The compiler of the image, as it is: the components that rust-toolchain.toml names beside it are for checks.
ENV RUSTUP_TOOLCHAIN=${RUST_VERSION}
WORKDIR /src
COPY . .
COPY --from=page /src/dashboards/web/dist dashboards/web/dist
# What is in a cache mount is not in the image, so the programs are copied out. Function names stay, for backtraces.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bins --package tickgate-gateway --package tickgate-sim \
    && install -D --target-directory=/out target/release/tickgate target/release/tickgate-sim \
    && strip --strip-debug /out/tickgate /out/tickgate-sim

# glibc, libgcc, certificates and a user; nothing to log in with. The same Debian as above, for its glibc.
FROM gcr.io/distroless/cc-debian12:nonroot AS runtime
# In digits, so that Kubernetes can see that it is not root.
USER 65532:65532
# Both programs drain on it; a second one ends them at once.
STOPSIGNAL SIGTERM

FROM runtime AS simulator
COPY --from=build /out/tickgate-sim /usr/local/bin/tickgate-sim
ENTRYPOINT ["/usr/local/bin/tickgate-sim"]
CMD ["--help"]

# The last stage is what `docker build` makes unless told otherwise.
FROM runtime AS gateway
COPY --from=build /out/tickgate /usr/local/bin/tickgate
# Clients; metrics and health. Both listen on loopback until told otherwise, by --listen and --admin.
EXPOSE 8080 9090
ENTRYPOINT ["/usr/local/bin/tickgate"]
CMD ["--help"]
