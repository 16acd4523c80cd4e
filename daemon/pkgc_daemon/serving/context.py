"""Context: what one call has at hand: the client's world, its environment, its output, the services."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pkgc_daemon.inputs.config import Config
from pkgc_daemon.inputs.given import RequirementsInput
from pkgc_daemon.inputs.indexes import index_options, names_files
from pkgc_daemon.inputs.pipconfig import PipConfiguration, merge_pip_configuration, pip_configuration_files
from pkgc_daemon.vocabulary import IndexOptions
from pkgc_protocol.places import home

from .calls import InputCall
from .cli import command_line_indexes
from .hostcalls import World
from .output import Output

if TYPE_CHECKING:
    from .services import Services
    from .targets import Target


@dataclass(frozen=True, slots=True)
class Context:
    """One call's surroundings; immutable after it was admitted."""

    services: Services
    world: World
    output: Output
    env: Mapping[str, str]
    config: Config
    umask: int | None = None
    """Of the client, when it told: what is made in its environments has its permissions."""

    def text_fetcher(self, call: InputCall, options: IndexOptions) -> Callable[[str], Awaitable[bytes]]:
        """Gets inputs that are URLs, with the credentials and certificates of `options`."""

        async def fetch(url: str) -> bytes:
            await self.services.prepare(options)
            return await self.services.texts.fetch(
                url, options, self.output, offline=call.offline, fresh=call.refresh
            )

        return fetch

    async def pip_configuration(
        self, call: InputCall, given: RequirementsInput, target: Target
    ) -> PipConfiguration | None:
        """pip's configuration, which is read only when nothing of pkgc's own names an index.

        Raises:
            InputError: a configuration file is invalid.
        """
        if names_files(command_line_indexes(call), given, self.config, self.env):
            return None
        return await self._pip_configuration(target)

    def index_options(
        self, call: InputCall, given: RequirementsInput, pip: PipConfiguration | None
    ) -> IndexOptions:
        """Where this call looks for files.

        Raises:
            InputError: a variable is invalid.
        """
        cli = command_line_indexes(call)
        return index_options(cli=cli, given=given, config=self.config, pip=pip, env=self.env, cwd=call.cwd)

    async def _pip_configuration(self, target: Target) -> PipConfiguration:
        prefix = target.interpreter.prefix if target.exists else None
        files = [
            path
            for path in pip_configuration_files(self.env, home(dict(self.env)), prefix)
            if os.path.isabs(path)
        ]
        contents = await self.world.read_files(files, optional=True)
        found = {path: data for path, data in zip(files, contents, strict=True) if data is not None}
        return merge_pip_configuration(found, self.env)
