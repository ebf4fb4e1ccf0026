# The service in an image: docker build -t fds .   Then: docker run -p 127.0.0.1:8000:8000 fds
#
# scripts/try_image.py carries these steps out in a directory, without a container engine.
ARG PYTHON_IMAGE=python:3.13.9-slim-trixie

FROM ${PYTHON_IMAGE} AS build
WORKDIR /build
COPY requirements/run.txt requirements/run.txt
# Nothing is installed whose hash is not in the lock file.
RUN python -m venv --without-pip /opt/fds \
    && python -m pip --python /opt/fds/bin/python install --no-cache-dir \
        --require-hashes --only-binary :all: -r requirements/run.txt
COPY pyproject.toml README.md LICENSE ./
COPY src src
# The lock file holds the build tools too; the image does not need them.
RUN python -m pip --python /opt/fds/bin/python install --no-cache-dir \
        --no-deps --no-build-isolation --no-index . \
    && python -m pip --python /opt/fds/bin/python uninstall --yes \
        editables hatchling packaging pathspec pluggy tomlkit trove-classifiers

FROM ${PYTHON_IMAGE}
RUN useradd --uid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin fds \
    && install --directory --owner fds --mode 0700 /var/lib/fds /var/cache/fds
COPY --from=build /opt/fds /opt/fds

# Numba caches kernels per processor, so an image built on one machine would compile on another.
# These kernels run on every x86-64 processor with AVX2, which is since 2013. Elsewhere they would end
# the service with SIGILL: --build-arg KERNEL_CPU=x86-64-v2 for older ones, generic for ARM. Features
# must be empty: not those of the building machine.
ARG KERNEL_CPU=x86-64-v3
ENV PATH=/opt/fds/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    NUMBA_CACHE_DIR=/var/cache/fds \
    NUMBA_CPU_NAME=${KERNEL_CPU} \
    NUMBA_CPU_FEATURES="" \
    FDS_HOST=0.0.0.0 \
    FDS_DATA_DIR=/var/lib/fds

# By number: Kubernetes checks runAsNonRoot against it.
USER 10001
RUN python -c "from financial_data_service.engine.running_stats import warm_up; warm_up()"

COPY deploy/healthcheck.py /opt/fds/healthcheck.py
VOLUME /var/lib/fds
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --start-interval=1s \
    CMD ["python", "-I", "-S", "/opt/fds/healthcheck.py"]
ENTRYPOINT ["fds"]
CMD ["serve"]
