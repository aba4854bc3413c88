# livesync in a container: two stages, no compiler, no pip, not root. docs/deployment.md says how to run it.

FROM python:3.13-slim AS build
WORKDIR /src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# What changes rarely first. The backend that makes the package stays out of the image.
COPY requirements-runtime.txt requirements-backend.txt ./
RUN python -m venv /opt/livesync && /opt/livesync/bin/pip install --require-hashes --no-deps --requirement requirements-runtime.txt
RUN python -m venv /src/backend && /src/backend/bin/pip install --require-hashes --no-deps --requirement requirements-backend.txt
COPY pyproject.toml README.md LICENSE ./
COPY livesync_trio livesync_trio
RUN /src/backend/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /src/wheel . \
    && /opt/livesync/bin/pip install --no-deps --no-index /src/wheel/livesync_trio-*.whl \
    && /opt/livesync/bin/pip check && /opt/livesync/bin/pip uninstall --yes pip
RUN mkdir -m 0700 /data

FROM python:3.13-slim
COPY --from=build /opt/livesync /opt/livesync
# A volume that is made anew belongs to whom the folder in the image belongs to.
COPY --from=build --chown=10001:10001 /data /data
ENV PATH=/opt/livesync/bin:/usr/local/bin:/usr/bin:/bin \
    HOST=0.0.0.0 \
    PORT=8000 \
    DATABASE_URL=sqlite:////data/livesync.db \
    LOG_FORMAT=json
WORKDIR /data
VOLUME /data
EXPOSE 8000
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
# Asks /health by the same settings. The start may wait for a database for LIVESYNC_DATABASE_WAIT_S.
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 CMD ["livesync", "health"]
# The server is process 1, so it gets SIGTERM itself and drains.
ENTRYPOINT ["livesync"]
CMD ["serve"]
