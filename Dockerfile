# The operator's image: built without the pretend world, run without a shell, a package manager or root.
#
# Build it with the lock file of this repository: docker build -t ecskms:0.1.0 .
FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# The dev feature holds the simulated cloud and the embedded Kubernetes API, which have no place in a cluster.
RUN cargo build --release --locked --no-default-features --package ecskms --bin ecskms

FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="ecskms" \
      org.opencontainers.image.description="Keeps Alibaba Cloud ECS workloads encrypted under KMS keys" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /src/target/release/ecskms /usr/local/bin/ecskms
# The number, so that runAsNonRoot can be checked: it is the user nonroot.
USER 65532:65532
# metrics, health
EXPOSE 8080 8081
ENTRYPOINT ["/usr/local/bin/ecskms"]
CMD ["run"]
