FROM python:3.13-slim AS build
WORKDIR /src
COPY constraints.txt pyproject.toml README.md CHANGELOG.md ./
COPY clients/python clients/python
COPY service service
COPY migrations migrations
RUN python -m venv /opt/interlock \
    && /opt/interlock/bin/pip install --no-cache-dir -c constraints.txt ./clients/python .

FROM python:3.13-slim
COPY --from=build /opt/interlock /opt/interlock
RUN useradd --system --create-home --home-dir /var/lib/interlock interlock
USER interlock
ENV PATH=/opt/interlock/bin:$PATH INTERLOCK_HOME=/var/lib/interlock
VOLUME /var/lib/interlock
EXPOSE 4200
STOPSIGNAL SIGTERM
# A container's port is reachable only where it is published: publish it to where it is safe.
CMD ["interlock", "server", "start", "--host", "0.0.0.0", \
     "--open-to-network-without-encryption-or-login"]
