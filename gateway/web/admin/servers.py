"""Machines: cloud actions by operators who never see the key."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from gateway.core.attest.ec2 import REGION
from gateway.core.audit import Name
from gateway.core.servers import MOST, STATES, Enrolment, Server, Verb
from gateway.flows.launch import Launch, Order
from gateway.flows.servers import Servers, Wanted
from gateway.ports import Clock
from gateway.web.admin.desk import AdminRoute, Asked
from gateway.web.admin.pages import Page
from gateway.web.admin.shown import INSTANT, Unseen
from gateway.wire.messages import NAME, instant
from gateway.wire.strict import integer, text

STATE, ENROLMENT = "|".join(STATES), "|".join(Enrolment)


@dataclass(frozen=True, slots=True)
class ServerQuery(Page):
    """The query of GET /v1/servers."""

    region: str | None = text(pattern=REGION, default=None)
    state: str | None = text(pattern=STATE, default=None)
    profile: str | None = text(pattern=NAME, default=None)
    enrolment: str | None = text(pattern=ENROLMENT, default=None)


@dataclass(frozen=True, slots=True)
class TerminateQuery:
    """The query of POST /v1/servers/<id>/terminate. With `keep_enrolment` its certificate is not revoked."""

    keep_enrolment: str = text(pattern="true|false", default="false")


@dataclass(frozen=True, slots=True)
class LaunchOrder:
    """POST /v1/servers. `user_data` replaces the profile's; the gateway's own line is put behind it."""

    profile: str = text(pattern=NAME)
    count: int = integer(low=1, high=MOST, default=1)
    name: str | None = text(pattern=r"[A-Za-z0-9 ._:/=+@-]{1,120}", default=None)
    user_data: str | None = text(longest=15 * 1024, default=None)


@dataclass(frozen=True, slots=True)
class ServerShown:
    """A machine: what AWS says of it now, and what the gateway knows. `launched_at` is its last start; `uptime` the
    seconds since then, if it runs; `launched_by` who launched it through the gateway.
    """

    id: str = text()
    account: str = text(pattern="[0-9]{12}")
    region: str = text(pattern=REGION)
    instance_id: str = text()
    name: str = text()
    state: str = text()
    launched_at: str = text(pattern=INSTANT)
    uptime: int | None = integer(low=0, high=2**53)
    image: str = text()
    type: str = text()
    private_ip: str | None = text()
    public_ip: str | None = text()
    tags: Mapping[str, str] = text()
    enrolment: str = text(pattern=ENROLMENT)
    profile: str | None = text()
    launched_by: str | None = text(longest=2048)


@dataclass(frozen=True, slots=True)
class ServersAnswer:
    """A page of servers, what could not be seen, and where the next page begins."""

    servers: tuple[ServerShown, ...]
    unseen: tuple[Unseen, ...]
    next: str | None = text(longest=1024)


@dataclass(frozen=True, slots=True)
class NotLaunched:
    """What AWS refused one machine of an order with."""

    code: str = text()
    detail: str | None = text(longest=2048)


@dataclass(frozen=True, slots=True)
class LaunchAnswer:
    """The machines that were launched, and the ones that were not."""

    servers: tuple[ServerShown, ...]
    refused: tuple[NotLaunched, ...]


@dataclass(frozen=True, slots=True)
class ChangeAnswer:
    """The state after the change, AWS's number of the request, and the revocation of its enrolment, if there was."""

    id: str = text()
    state: str = text()
    aws_request_id: str = text()
    revocation: str | None = text()


@dataclass(frozen=True, slots=True)
class OutputAnswer:
    """The end of what a machine wrote to its console, at most 64 KiB, and when AWS took it down."""

    id: str = text()
    output: str = text(longest=65536)
    at: str | None = text(pattern=INSTANT)


def routes(servers: Servers, launch: Launch, clock: Clock) -> Sequence[AdminRoute]:
    """Each by the permission of its verb, under the conditions of the role that gives it."""

    def shown(server: Server) -> ServerShown:
        machine, uptime = server.machine, server.uptime(clock())
        return ServerShown(
            id=machine.id,
            account=machine.account,
            region=machine.region,
            instance_id=machine.instance_id,
            name=machine.name,
            state=machine.state,
            launched_at=instant(machine.launched_at),
            uptime=int(uptime.total_seconds()) if uptime is not None else None,
            image=machine.image,
            type=machine.type,
            private_ip=machine.private_ip,
            public_ip=machine.public_ip,
            tags=dict(machine.tags),
            enrolment=server.enrolment.value,
            profile=server.profile,
            launched_by=server.launched_by,
        )

    def all_servers(asked: Asked) -> Mapping[str, Any]:
        query, limit = asked.query, int(asked.query.limit)
        wanted = Wanted(query.region, query.state, query.profile, query.enrolment)
        found = servers.all(asked.call, asked.admitted.rights, wanted, after=query.after, limit=limit)
        return {
            "servers": [asdict(shown(each)) for each in found.servers],
            "unseen": list(found.unseen),
            "next": found.servers[-1].machine.id if len(found.servers) == limit else None,
        }

    def one_server(asked: Asked) -> ServerShown:
        return shown(servers.one(asked.call, asked.admitted.rights, asked.path["named"]))

    def launch_servers(asked: Asked) -> LaunchAnswer:
        body = asked.body
        order = Order(body.profile, body.count, body.name, body.user_data)
        done = launch.run(asked.call, asked.admitted.rights, order, asked.key)
        refused = tuple(NotLaunched(each.code, each.detail) for each in done.refused)
        return LaunchAnswer(tuple(map(shown, done.servers)), refused)

    def changed(asked: Asked, verb: Verb, *, keep_enrolment: bool = False) -> ChangeAnswer:
        done = servers.change(
            asked.call, asked.admitted.rights, asked.path["named"], verb, keep_enrolment=keep_enrolment
        )
        return ChangeAnswer(done.server.machine.id, done.state, done.request_id, done.revocation)

    def terminate(asked: Asked) -> ChangeAnswer:
        return changed(asked, Verb.TERMINATE, keep_enrolment=asked.query.keep_enrolment == "true")

    def output(asked: Asked) -> OutputAnswer:
        machine, found = servers.output(asked.call, asked.admitted.rights, asked.path["named"])
        return OutputAnswer(machine.id, found.text, instant(found.at) if found.at else None)

    aws = ("upstream_refused", "upstream_unavailable")
    there = ("server_unknown", *aws)
    named = "/v1/servers/<path:named>"
    return (
        AdminRoute("GET", "/v1/servers", "The machines of the accounts", Name.OPERATOR_SERVER_LIST, all_servers,
                   query=ServerQuery, codes=aws, answers=ServersAnswer),
        AdminRoute("POST", "/v1/servers", "Launch machines of a profile", Name.OPERATOR_SERVER_LAUNCH, launch_servers,
                   asks=LaunchOrder, answers=LaunchAnswer, status=201, resumes=True,
                   vets=lambda asked: launch.demand_harmless(asked.body.user_data or ""),
                   codes=("profile_unknown", "launch_missing", "user_data_refused", "upstream_key_unknown",
                          "upstream_key_disabled", *aws)),
        AdminRoute("GET", f"{named}/output", "What a machine wrote to its console", Name.OPERATOR_SERVER_OUTPUT, output,
                   codes=there, answers=OutputAnswer),
        AdminRoute("GET", named, "One machine", Name.OPERATOR_SERVER_LIST, one_server, codes=there,
                   answers=ServerShown),
        AdminRoute("POST", f"{named}/start", "Start a machine", Name.OPERATOR_SERVER_START,
                   lambda asked: changed(asked, Verb.START), codes=there, answers=ChangeAnswer),
        AdminRoute("POST", f"{named}/stop", "Stop a machine", Name.OPERATOR_SERVER_STOP,
                   lambda asked: changed(asked, Verb.STOP), codes=there, answers=ChangeAnswer),
        AdminRoute("POST", f"{named}/reboot", "Restart a machine", Name.OPERATOR_SERVER_REBOOT,
                   lambda asked: changed(asked, Verb.REBOOT), codes=there, answers=ChangeAnswer),
        AdminRoute("POST", f"{named}/terminate", "End a machine for good, and revoke it",
                   Name.OPERATOR_SERVER_TERMINATE, terminate, query=TerminateQuery, codes=there, answers=ChangeAnswer),
    )  # fmt: skip
