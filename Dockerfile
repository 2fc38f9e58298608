# lora-swarm in a container: coordinator, node, or any other command. docs/install.md explains how to run it.
# The base image uses glibc, because the libraries of onnxruntime need it (Alpine does not have it).
FROM node:24-bookworm-slim AS build
WORKDIR /src
COPY . .
RUN npm ci --no-audit --no-fund && mkdir /pack && npm pack --pack-destination /pack

FROM node:24-bookworm-slim
RUN --mount=type=bind,from=build,source=/pack,target=/pack \
    npm install --global --no-audit --no-fund --no-update-notifier /pack/*.tgz \
    && npm cache clean --force \
    && install --directory --owner=1000 --group=1000 --mode=0700 /data
USER 1000:1000
# Everything that the program keeps is below /data: key, database and logs in home, and files that it can load again.
ENV SWARM_HOME=/data/home \
    SWARM_CACHE=/data/cache \
    HF_HOME=/data/huggingface
VOLUME /data
# The program saves its state and leaves the round when it receives this signal. It needs up to 5 s.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=20s --start-period=2m --retries=3 \
    CMD ["lora-swarm", "status", "--check"]
ENTRYPOINT ["lora-swarm"]
CMD ["help"]
