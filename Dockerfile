# A server of detectors: docs/deployment.md says how it is built, mounted and run.

ARG PYTHON=3.11-slim-bookworm

FROM python:${PYTHON} AS build
# Wheels of torch without CUDA, which PyPI does not have for Linux.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# "serve,heif" for photographs of phones.
ARG EXTRAS=serve
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/negrefine
WORKDIR /source
# The largest layer is made again only when a version changes.
COPY constraints.txt ./
RUN /opt/negrefine/bin/pip install --constraint constraints.txt --extra-index-url "$TORCH_INDEX" \
    "torch==$(sed -n 's/^torch==//p' constraints.txt)+cpu"
COPY pyproject.toml README.md LICENSE NOTICE.md ./
COPY src ./src
RUN /opt/negrefine/bin/pip install --constraint constraints.txt ".[$EXTRAS]"

FROM python:${PYTHON}
RUN groupadd --system --gid 10001 negrefine \
    && useradd --system --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent \
    --shell /usr/sbin/nologin negrefine \
    && install -d -o 10001 -g 10001 /cache
COPY --from=build /opt/negrefine /opt/negrefine
# The C library keeps freed memory for each thread; two arenas are enough for the few here.
# The code belongs to root and is compiled, the root file system may be read-only, and nothing is
# fetched from a hub: models are looked for in /models, which is laid out like ~/.cache/huggingface.
ENV PATH=/opt/negrefine/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MALLOC_ARENA_MAX=2 \
    NEGREFINE_CACHE=/cache \
    HF_HOME=/models \
    HF_HUB_OFFLINE=1
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
# Not through urllib, which would ask a proxy.
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s --retries=3 CMD ["python", "-c", \
    "import http.client as h, sys; c = h.HTTPConnection('127.0.0.1', 8000, timeout=4); c.request('GET', '/readyz'); sys.exit(c.getresponse().status != 200)"]
ENTRYPOINT ["negrefine", "serve", "--host", "0.0.0.0", "--port", "8000"]
CMD ["/detector"]
