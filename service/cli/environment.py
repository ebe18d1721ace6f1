"""Settings from the environment, in which orchestrators and platforms write as well."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource

from service.config import Settings

#: What platforms call the port that they want (Vertex AI; Cloud Run, Heroku and many others), after our own name.
PORT_VARIABLES = ("MOBILENET_PORT", "AIP_HTTP_PORT", "PORT")

#: Kubernetes and Docker describe a service in variables of its neighbours: one that is called mobilenet as
#: MOBILENET_PORT=tcp://10.0.0.1:8000, MOBILENET_SERVICE_HOST and others (Kubernetes' documentation, "Service").
_LINK_NAME = re.compile(r"MOBILENET_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
_LINK_VALUE = re.compile(r"(tcp|udp|sctp)://")


def is_service_link(name: str, value: str) -> bool:
    """Whether an orchestrator wrote this variable about some service, so that it is no setting of ours."""
    ours = name.startswith("MOBILENET_") or name in PORT_VARIABLES
    return ours and (_LINK_VALUE.match(value) is not None or _LINK_NAME.fullmatch(name) is not None)


def port_variable(environment: Mapping[str, str]) -> str | None:
    """The name of the variable that sets the port, if one does."""
    given = (name for name in PORT_VARIABLES if (value := environment.get(name)) and not is_service_link(name, value))
    return next(given, None)


class EnvironmentSettings(Settings):
    """``Settings``, read from the environment as well as from arguments."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The library's own sources, but for what orchestrators and platforms write into the environment."""
        assert isinstance(env_settings, EnvSettingsSource)
        ours = {name.lower(): value for name, value in os.environ.items() if value and not is_service_link(name, value)}
        if port := port_variable(os.environ):
            ours.setdefault("mobilenet_port", os.environ[port])
        env_settings.env_vars = ours
        return init_settings, env_settings
