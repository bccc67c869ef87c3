# syntax=docker/dockerfile:1

# MinIO of the version that Earmark is tested with. The project publishes source
# only; its last published image is older than security fixes in that source.
FROM golang:1.26-bookworm AS build
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOFLAGS='-buildvcs=false -trimpath' GOBIN=/out \
    go install -ldflags='-s -w' github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c

FROM debian:bookworm-slim
RUN install -d -o 65532 -g 65532 -m 0700 /data
COPY --from=build /out/minio /usr/local/bin/minio
USER 65532:65532
EXPOSE 9000
VOLUME /data
ENTRYPOINT ["minio"]
CMD ["server", "/data"]
