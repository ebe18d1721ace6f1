# The service as an image. Targets: cpu (default, OpenVINO, no torch) and cuda (torch).
# A prepared store replaces the stage that downloads the weights: docker build --build-context artifact=model_store .
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS build
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
WORKDIR /src
# PIP_CONSTRAINT pins every version.
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PIP_CONSTRAINT=/src/constraints.txt
COPY pyproject.toml constraints.txt ./
# Before the code, so that a change of the code installs nothing again.
RUN python -m venv --without-pip /venv \
 && python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
    | tee requirements.txt \
 && pip --python /venv/bin/python install --no-compile --requirement requirements.txt
COPY README.md LICENSE ./
COPY service service
# hadolint ignore=DL3013
RUN pip --python /venv/bin/python install --no-compile --no-deps .
# HEIC, which is off because HEVC is patented: --build-arg HEIF=1
ARG HEIF=
# hadolint ignore=DL3013
RUN if [ -n "${HEIF}" ]; then pip --python /venv/bin/python install --no-compile '.[heif]'; fi

FROM build AS build-cuda
# hadolint ignore=DL3013
RUN pip --python /venv/bin/python install --no-compile '.[torch]'

# Without what a CPU never loads: plugins of other devices, readers of other frameworks' models, tests. Bytecode that
# does not depend on when it was made, since the image's file system is read-only; and no date but one, so that the
# same inputs give the same layers.
FROM build AS venv-cpu
ARG SOURCE_DATE_EPOCH=1767225600
COPY deploy/docker/healthcheck.py /venv/
RUN find /venv/lib -path '*/openvino/libs/*' -regextype posix-extended \
      -regex '.*(_(gpu|npu)_plugin\.so|cache\.json|_(onnx|tensorflow|tensorflow_lite|pytorch|paddle|gguf|jax)_frontend\.so.*)' -delete \
 && find /venv/lib \( -path '*/numpy/*' -o -path '*/h5py/*' \) -type d -name tests -prune -exec rm -r {} + \
 && python -m compileall -q --invalidation-mode unchecked-hash /venv/lib \
 && find /venv -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH}" {} +

FROM build-cuda AS venv-cuda
ARG SOURCE_DATE_EPOCH=1767225600
COPY deploy/docker/healthcheck.py /venv/
# Some of torch's files are in the syntax of a newer Python: compileall says so, and nothing imports them.
RUN { python -m compileall -q --invalidation-mode unchecked-hash /venv/lib || true; } \
 && find /venv -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH}" {} +

FROM build AS pull
ARG MODEL_NAME=mobilenet_v2
ARG MODEL_VERSION=1
COPY model_store /store
# hadolint ignore=DL3013
RUN pip --python /venv/bin/python install pip \
 && /venv/bin/mobilenet-service models pull --model-store /store "${MODEL_NAME}/${MODEL_VERSION}"

FROM scratch AS artifact
COPY --from=pull /store /

FROM ${BASE_IMAGE} AS store
ARG MODEL_NAME=mobilenet_v2
ARG MODEL_VERSION=1
ARG SOURCE_DATE_EPOCH=1767225600
COPY --from=artifact /${MODEL_NAME}/${MODEL_VERSION} /model_store/${MODEL_NAME}/${MODEL_VERSION}
RUN chmod -R a+rX /model_store && find /model_store -exec touch --date="@${SOURCE_DATE_EPOCH}" {} +

FROM ${BASE_IMAGE} AS runtime
ARG MODEL_NAME=mobilenet_v2
ARG MODEL_VERSION=1
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="mobilenet-service" \
      org.opencontainers.image.description="MobileNetV2 over HTTP: ImageNet classes, feature vectors and class maps" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
ENV PATH=/venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MOBILENET_HOST=0.0.0.0 \
    MOBILENET_MODEL_STORE=/model_store \
    MOBILENET_MODEL=${MODEL_NAME} \
    MOBILENET_VERSION=${MODEL_VERSION} \
    MOBILENET_LOG_FORMAT=json
COPY --from=store /model_store /model_store
# No name is needed, and a number is what Kubernetes can check for runAsNonRoot.
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s --start-interval=1s --retries=3 \
    CMD ["python", "-I", "-S", "/venv/healthcheck.py"]
ENTRYPOINT ["mobilenet-service"]
CMD ["serve"]

FROM runtime AS cuda
ENV MOBILENET_DEVICE=cuda NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
COPY --from=venv-cuda /venv /venv

FROM runtime AS cpu
ENV MOBILENET_DEVICE=cpu
COPY --from=venv-cpu /venv /venv
