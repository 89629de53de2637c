# What the programs run on: a Debian with Python and Node. The same for all environments, made once.
FROM scratch AS debian
ADD rootfs.tar /
ARG AUTHORITIES
COPY authorities ${AUTHORITIES}
ENV PIP_CERT=${AUTHORITIES} NODE_EXTRA_CA_CERTS=${AUTHORITIES}
CMD ["bash"]

FROM debian AS tools
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends python3-venv nodejs npm \
 && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/*
