"""The Kubernetes manifests as Kustomize builds them: valid, whole, hardened, and as in compose."""

import copy
import json
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml
from cloudcoil.models.keda.v1alpha1 import ScaledObject, TriggerAuthentication
from jsonschema import Draft202012Validator, ValidationError

from shared.events import STAGES
from shared.pipeline import load_pipelines
from shared.settings import Settings, read_settings
from tests.deploy.manifests import (
    MANIFESTS,
    README,
    ROOT,
    Object,
    built,
    container,
    environment,
    labels,
    mounted,
    of_kind,
    pod,
    secret_keys,
    secrets,
    workloads,
)

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]

OLDEST, NEWEST = "1.30", "1.37"
OVERLAYS = ["base", "overlays/with-servers", "overlays/keda", "README"]
PROGRESS = [*STAGES, "beat"]
PARTS = [*PROGRESS, "flower", "exporter", "cli"]
SERVERS = ["redis", "mongo"]
IN_COMPOSE = [name for name in [*PARTS, *SERVERS] if name in SERVICES]
USES_MONGO = {*STAGES, "exporter", "cli"}


@cache
def keda_schema(model: type[ScaledObject] | type[TriggerAuthentication]) -> Object:
    """The schema of KEDA's definition, unknown fields refused."""
    schema = model.model_json_schema(by_alias=True)
    for each in [schema, *schema["$defs"].values()]:
        if "properties" in each:
            each["additionalProperties"] = False
    return schema


def validate(manifest: Object, version: str) -> None:
    """
    Raises:
        ValidationError: the manifest is not what its kind's schema asks for.
    """
    match manifest["kind"]:
        case "ScaledObject":
            Draft202012Validator(keda_schema(ScaledObject)).validate(manifest)
        case "TriggerAuthentication":
            Draft202012Validator(keda_schema(TriggerAuthentication)).validate(manifest)
        case _:
            kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_object_is_valid(version: str) -> None:
    different = {json.dumps(each, sort_keys=True) for name in OVERLAYS for each in built(name)}
    for manifest in map(json.loads, different):
        validate(manifest, version)


@pytest.mark.parametrize(
    ("kind", "name", "path", "value"),
    [
        ("Deployment", "drift", ("spec", "replica"), 2),
        (
            "Deployment",
            "drift",
            ("spec", "template", "spec", "containers", 0, "imagePull"),
            "Always",
        ),
        (
            "Deployment",
            "drift",
            ("spec", "template", "spec", "volumes", 0, "emptyDir", "size"),
            "1",
        ),
        ("NetworkPolicy", "deny-all", ("spec", "policyTypes"), "Egress"),
        ("ScaledObject", "drift", ("spec", "minReplicas"), 1),
        ("ScaledObject", "drift", ("spec", "triggers", 0, "metadata", "listLength"), 5),
        ("TriggerAuthentication", "redis", ("spec", "secretTargetRef", 0, "keys"), "redis_url"),
    ],
)
def test_what_a_schema_does_not_know_is_refused(
    kind: str, name: str, path: tuple[str | int, ...], value: object
) -> None:
    manifest = copy.deepcopy(of_kind("overlays/keda", kind)[name])
    place: Any = manifest
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(ValidationError):
        validate(manifest, NEWEST)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_no_object_is_made_twice_and_all_are_in_the_namespace(overlay: str) -> None:
    names = [(each["kind"], each["metadata"]["name"]) for each in built(overlay)]
    assert len(names) == len(set(names))
    places = {each["metadata"].get("namespace") for each in built(overlay)}
    assert places == {"trimtab", None}
    assert [each["kind"] for each in built(overlay) if "namespace" not in each["metadata"]] == [
        "Namespace"
    ]


def test_every_file_is_named_by_its_kustomization() -> None:
    for path in MANIFESTS.rglob("kustomization.yaml"):
        content = yaml.safe_load(path.read_text())
        named = {*content["resources"], *(each["path"] for each in content.get("patches", []))}
        there = {str(file.relative_to(path.parent)) for file in path.parent.rglob("*.yaml")}
        assert there - {path.name} <= named, path


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_reference_of_a_pod_leads_somewhere(overlay: str) -> None:
    accounts = of_kind(overlay, "ServiceAccount")
    for name, workload in workloads(overlay).items():
        assert pod(overlay, name)["serviceAccountName"] in accounts
        claims = workload["spec"].get("volumeClaimTemplates", [])
        declared = [each["name"] for each in pod(overlay, name)["volumes"]]
        declared += [each["metadata"]["name"] for each in claims]
        used = [each["name"] for each in container(overlay, name)["volumeMounts"]]
        assert sorted(declared) == sorted(used), name
        selector = workload["spec"]["selector"]["matchLabels"]
        assert selector.items() <= labels(overlay, name).items()
        files_of_pod = dict(mounted(overlay, name))
        for variable, value in environment(overlay, name).items():
            assert not variable.endswith("_FILE") or value in files_of_pod, variable


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_service_has_pods_and_their_port(overlay: str) -> None:
    services = of_kind(overlay, "Service")
    assert {"flower", "exporter"} <= services.keys()
    for service in services.values():
        selector = service["spec"]["selector"].items()
        (name,) = (each for each in workloads(overlay) if selector <= labels(overlay, each).items())
        offered = {
            each["name"]: each["containerPort"] for each in container(overlay, name)["ports"]
        }
        for port in service["spec"]["ports"]:
            assert offered[port["targetPort"]] == port["port"]


@pytest.mark.parametrize("server", SERVERS)
def test_the_secrets_lead_to_the_servers(server: str) -> None:
    address = urlsplit(secrets()["redis_url_cli" if server == "redis" else "mongodb_uri_cli"])
    service = of_kind("overlays/with-servers", "Service")[server]
    assert address.hostname == service["metadata"]["name"]
    assert address.port == service["spec"]["ports"][0]["port"]
    stateful = workloads("overlays/with-servers")[server]["spec"]
    assert stateful["serviceName"] == server
    assert stateful["replicas"] == 1


def test_configuration_files_are_those_of_the_repository() -> None:
    redis = dict(mounted("overlays/with-servers", "redis"))
    assert (
        redis["/usr/local/etc/redis/redis.conf"] == (ROOT / "deploy/redis/redis.conf").read_text()
    )
    users = re.search(r"^aclfile (.*)$", redis["/usr/local/etc/redis/redis.conf"], re.M)
    assert users
    assert redis[users[1]] == secrets()["redis_users"]
    mongo = dict(mounted("overlays/with-servers", "mongo"))
    script = (ROOT / "deploy/mongo/users.js").read_text()
    assert mongo["/docker-entrypoint-initdb.d/users.js"] == script
    rights = (ROOT / "deploy/mongo/rights.json").read_text()
    assert mongo["/docker-entrypoint-initdb.d/rights.json"] == rights
    assert '"/docker-entrypoint-initdb.d/rights.json"' in script
    assert "readFileSync(`/run/secrets/${name}`" in script
    for name in re.findall(r'secret\("(.*?)"\)', script):
        assert mongo[f"/run/secrets/{name}"] == secrets()[name]


def test_all_pipelines_are_taken_along() -> None:
    """And the kustomization beside them is not taken for one."""
    there = {path.name: path.read_text() for path in (ROOT / "pipelines").glob("*.yaml")}
    found = dict(mounted("base", "ingest"))
    assert there == {
        Path(path).name: content for path, content in found.items() if "/pipelines/" in path
    }
    assert load_pipelines(ROOT / "pipelines")


@pytest.mark.parametrize("overlay", ["overlays/with-servers", "README"])
@pytest.mark.parametrize("name", [*PROGRESS, "cli"])
def test_a_part_reads_its_settings_from_what_its_pod_has(
    name: str, overlay: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path, content in mounted(overlay, name):
        (tmp_path / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path[1:]).write_text(content)
    for setting in Settings.model_fields:
        monkeypatch.delenv(setting.upper(), raising=False)
        monkeypatch.delenv(f"{setting.upper()}_FILE", raising=False)
    for variable, value in environment(overlay, name).items():
        monkeypatch.setenv(variable, f"{tmp_path}{value}" if value.startswith("/") else value)
    settings = read_settings()
    assert settings.redis_url.get_secret_value() == secrets()[f"redis_url_{name}"]
    uri = settings.mongodb_uri and settings.mongodb_uri.get_secret_value()
    assert uri == (None if name in {"beat", "flower"} else secrets()[f"mongodb_uri_{name}"])
    assert (settings.model_repository is None) == (overlay != "README")
    assert (settings.event_key is None) == (name == "flower")
    key = settings.model_signing_key
    assert bool(key) == (name in {"drift", "trainer", "publisher", "cli"})
    expected = "parcels" if overlay == "README" else "air_quality"
    assert list(load_pipelines(settings.pipelines)) == [expected]


def test_settings_are_known_and_secrets_are_files() -> None:
    known = {name.upper(): str(field.annotation) for name, field in Settings.model_fields.items()}
    known |= {"FLOWER_PASSWORD": "SecretStr", "EXPORTER_ADDRESS": "str", "EXPORTER_PORT": "int"}
    for name in PARTS:
        for variable in environment("base", name):
            # The key that signs tags is a path to us: Git alone reads the file.
            if variable == "GIT_SIGNING_KEY_FILE":
                continue
            kind = known[variable.removesuffix("_FILE")]
            in_file = "Secret" in kind or variable == "OPERATORS_FILE"
            assert in_file == variable.endswith("_FILE"), variable


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_pod_can_do_as_little_as_possible(overlay: str) -> None:
    for name in workloads(overlay):
        spec, only = pod(overlay, name), container(overlay, name)
        user = 999 if name in SERVERS else 10001
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & spec.keys()
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] == security["runAsGroup"] == security["fsGroup"] == user
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        assert only["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {"cpu", "memory"} == only["resources"]["requests"].keys()
        assert {"cpu", "memory"} == only["resources"]["limits"].keys()


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_can_be_written_is_bounded_and_secrets_cannot(overlay: str) -> None:
    for name in workloads(overlay):
        for volume in pod(overlay, name)["volumes"]:
            if "emptyDir" in volume:
                assert volume["emptyDir"]["sizeLimit"]
            if "secret" in volume:
                assert volume["secret"]["defaultMode"] == 0o440
        in_memory = {
            each["name"]: each.get("emptyDir", {}) for each in pod(overlay, name)["volumes"]
        }
        assert in_memory["tmp"]["medium"] == "Memory"
        for mount in container(overlay, name)["volumeMounts"]:
            writable = mount["name"] in {"tmp", "git-cache", "data", "configdb"}
            assert writable or mount["readOnly"] is True


def test_the_namespace_admits_restricted_pods_only() -> None:
    (namespace,) = of_kind("base", "Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert of_kind("base", "ServiceAccount")["trimtab"]["automountServiceAccountToken"] is False
    assert not of_kind("base", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")


def selects(selector: Object, of_pod: dict[str, str]) -> bool:
    """Whether a label selector selects a pod."""
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In"
        if of_pod.get(expression["key"]) not in expression["values"]:
            return False
    return bool(selector.get("matchLabels", {}).items() <= of_pod.items())


def rules(overlay: str, name: str, direction: str) -> Iterator[Object]:
    """What the policies that select a pod allow it in a direction."""
    for policy in of_kind(overlay, "NetworkPolicy").values():
        spec = policy["spec"]
        assert set(spec) - {"podSelector", "policyTypes"} <= {
            each.lower() for each in spec["policyTypes"]
        }
        if selects(spec["podSelector"], labels(overlay, name)):
            yield from spec.get(direction, [])


def admits(rule: Object, side: str, overlay: str, other: str, port: int) -> bool:
    """Whether a rule is for another pod of the namespace, and a port."""
    peers = [peer for peer in rule[side] if peer.keys() == {"podSelector"}]
    known = any(selects(peer["podSelector"], labels(overlay, other)) for peer in peers)
    return known and {"protocol": "TCP", "port": port} in rule["ports"]


@pytest.mark.parametrize(("direction", "side"), [("egress", "to"), ("ingress", "from")])
def test_only_the_servers_are_reached_and_only_by_those_who_use_them(
    direction: str, side: str
) -> None:
    """The policies of either end alone say so."""
    overlay = "overlays/with-servers"
    reached = set()
    for receiver in workloads(overlay):
        for offered in container(overlay, receiver).get("ports", []):
            for sender in workloads(overlay):
                here, there = (sender, receiver) if direction == "egress" else (receiver, sender)
                if any(
                    admits(rule, side, overlay, there, offered["containerPort"])
                    for rule in rules(overlay, here, direction)
                ):
                    reached.add((sender, receiver))
    assert reached == {
        *((part, "redis") for part in PARTS),
        *((part, "mongo") for part in USES_MONGO),
    }


def test_servers_elsewhere_are_reached_as_the_readme_shows() -> None:
    for server in SERVERS:
        policy = of_kind("README", "NetworkPolicy")[f"reach-{server}"]["spec"]
        (rule,) = policy["egress"]
        assert [peer.keys() for peer in rule["to"]] == [{"ipBlock"}]


def test_nothing_is_allowed_that_no_policy_names() -> None:
    denial = of_kind("base", "NetworkPolicy")["deny-all"]["spec"]
    assert denial == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


def outside(name: str) -> list[Object]:
    """The address blocks that a part may reach."""
    peers = [peer for rule in rules("base", name, "egress") for peer in rule["to"]]
    return [peer["ipBlock"] for peer in peers if "ipBlock" in peer]


def test_the_same_parts_reach_outside_as_in_compose() -> None:
    in_compose = {name for name in IN_COMPOSE if "outside" in SERVICES[name]["networks"]}
    assert {name for name in PARTS if outside(name)} == in_compose


@pytest.mark.parametrize(
    ("address", "reached"),
    [
        ("140.82.121.4", True),
        ("2606:50c0:8000::154", True),
        ("169.254.169.254", False),  # where clouds hand out credentials
        ("fd00:ec2::254", False),
        ("10.1.2.3", False),
        ("192.168.1.1", False),
    ],
)
def test_outside_is_the_internet_alone(address: str, reached: bool) -> None:
    def within(blocks: list[str]) -> bool:
        return any(ip_address(address) in ip_network(block) for block in blocks)

    blocks = outside("ingest")
    assert reached == any(within([each["cidr"]]) and not within(each["except"]) for each in blocks)


def test_every_part_can_look_names_up() -> None:
    for name in PARTS:
        ports = [rule.get("ports") for rule in rules("base", name, "egress")]
        assert [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}] in ports


def test_prometheus_alone_comes_in_and_to_the_exporter_alone() -> None:
    assert {name for name in PARTS if list(rules("base", name, "ingress"))} == {"exporter"}
    annotations = workloads("base")["exporter"]["spec"]["template"]["metadata"]["annotations"]
    port = environment("base", "exporter")["EXPORTER_PORT"]
    (rule,) = rules("base", "exporter", "ingress")
    assert rule["ports"] == [{"protocol": "TCP", "port": int(port)}]
    assert annotations["prometheus.io/port"] == port


@pytest.mark.parametrize("name", IN_COMPOSE)
def test_limits_are_those_of_compose(name: str) -> None:
    limits = container("overlays/with-servers", name)["resources"]["limits"]
    assert limits["memory"] == re.sub(
        r"[mg]$", lambda unit: {"m": "Mi", "g": "Gi"}[unit[0]], SERVICES[name]["mem_limit"]
    )
    if "cpus" in SERVICES[name]:
        cores = limits["cpu"]
        number = int(cores[:-1]) / 1000 if cores.endswith("m") else float(cores)
        assert number == SERVICES[name]["cpus"]


@pytest.mark.parametrize("name", IN_COMPOSE)
def test_secrets_are_those_of_compose(name: str) -> None:
    in_compose = {
        each if isinstance(each, str) else each["source"] for each in SERVICES[name]["secrets"]
    }
    assert secret_keys("overlays/with-servers", name) == in_compose
    named = {each for each in environment("overlays/with-servers", name) if each.endswith("_FILE")}
    in_compose = SERVICES[name].get("environment", {})
    assert named == {each for each in in_compose if each.endswith("_FILE")}


@pytest.mark.parametrize("name", IN_COMPOSE)
def test_images_and_commands_are_those_of_compose(name: str) -> None:
    here = container("overlays/with-servers", name)
    if name in SERVERS:
        assert here["image"] == SERVICES[name]["image"]
        said = here.get("command"), here.get("args")
        assert said == (SERVICES[name].get("entrypoint"), SERVICES[name].get("command"))
        return
    assert here["image"].partition(":")[0] == SERVICES[name]["image"].partition(":")[0]
    assert "args" not in here
    assert here.get("command") == (["sleep", "infinity"] if name == "cli" else None)


def test_images_have_the_version_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for name in PARTS:
        assert container("base", name)["image"] == f"trimtab/{name}:{project['version']}"
        of_own = container("README", name)["image"]
        assert of_own == f"registry.example.org/trimtab/{name}:{project['version']}"


@pytest.mark.parametrize("name", [*PROGRESS, *SERVERS])
def test_health_is_that_of_compose(name: str) -> None:
    here = container("overlays/with-servers", name)
    how, *command = (each.replace("$$", "$") for each in SERVICES[name]["healthcheck"]["test"])
    expected = ["sh", "-c", *command] if how == "CMD-SHELL" else command
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert here[probe]["exec"]["command"] == expected
    grace = pod("overlays/with-servers", name)["terminationGracePeriodSeconds"]
    assert f"{grace}s" == SERVICES[name]["stop_grace_period"]


@pytest.mark.parametrize("name", PROGRESS)
def test_a_worker_is_restarted_after_its_watchdog_had_its_time(name: str) -> None:
    """And its readiness says so before."""
    here = container("base", name)
    silent = {
        probe: 30 + here[probe]["periodSeconds"] * here[probe]["failureThreshold"]
        for probe in ("readinessProbe", "livenessProbe")
    }
    assert silent["readinessProbe"] < 120 < silent["livenessProbe"] <= 300


def test_flower_is_asked_where_compose_asks_it() -> None:
    asked = container("base", "flower")["livenessProbe"]["httpGet"]["path"]
    assert f":5555{asked}'" in SERVICES["flower"]["healthcheck"]["test"][-1]


def test_one_beat_and_as_many_workers_as_asked_for() -> None:
    beat = workloads("base")["beat"]["spec"]
    assert beat["replicas"] == 1
    assert beat["strategy"] == {"type": "Recreate"}
    for stage in STAGES:  # else applying again would undo what KEDA or a person has set
        assert "replicas" not in workloads("base")[stage]["spec"]


def key_prefix(overlay: str, stage: str) -> str:
    """What the keys of a stage's worker begin with on the broker."""
    known = environment(overlay, stage)
    names = ("MONGODB_DATABASE", "REDIS_KEY_PREFIX")
    given = {name.lower(): known[name] for name in names if known.get(name)}
    return Settings(redis_url="redis://unused", **given).key_prefix


@pytest.mark.parametrize("overlay", ["overlays/keda", "README"])
def test_every_worker_and_nothing_else_is_scaled_by_its_own_list(overlay: str) -> None:
    scaled = of_kind(overlay, "ScaledObject")
    assert scaled.keys() == set(STAGES)
    for stage, each in scaled.items():
        assert each["spec"]["scaleTargetRef"] == {"name": stage}
        assert 1 == each["spec"]["minReplicaCount"] < each["spec"]["maxReplicaCount"]
        (trigger,) = each["spec"]["triggers"]
        assert trigger["type"] == "redis"
        assert trigger["metadata"]["listName"] == f"{key_prefix(overlay, stage)}{stage}"
        assert int(trigger["metadata"]["listLength"]) >= 1
        assert trigger["authenticationRef"]["name"] in of_kind(overlay, "TriggerAuthentication")


def test_a_trainer_is_not_taken_away_in_a_training() -> None:
    behavior = of_kind("overlays/keda", "ScaledObject")["trainer"]["spec"]["advanced"]
    window = behavior["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"]
    longest = Settings.model_fields["task_time_limit_seconds"].default
    assert longest < window["stabilizationWindowSeconds"] <= 3600  # Kubernetes allows no more


def given_to_keda(overlay: str) -> dict[str, str]:
    """The parameters of KEDA's scaler, read as it reads them."""
    spec = of_kind(overlay, "TriggerAuthentication")["redis"]["spec"]
    plain = of_kind(overlay, "ConfigMap")
    given = {
        each["parameter"]: plain[each["name"]]["data"][each["key"]]
        for each in spec["configMapTargetRef"]
    }
    for each in spec["secretTargetRef"]:
        assert each["name"] == "trimtab"
        given[each["parameter"]] = secrets()[each["key"]]
    return given


def test_keda_signs_in_as_a_user_who_may_read_lengths_alone() -> None:
    address = urlsplit(secrets()["redis_url_drift"])
    assert given_to_keda("overlays/keda") == {
        "address": f"{address.hostname}.trimtab.svc:{address.port}",
        "username": "keda",
        "password": secrets()["redis_password_keda"],
        "tls": "disable",
    }
    assert given_to_keda("README")["address"] == "redis.example.org:6380"
    assert given_to_keda("README")["tls"] == "enable"


def test_keda_is_let_into_redis() -> None:
    policy = of_kind("overlays/keda", "NetworkPolicy")["let-keda-into-redis"]["spec"]
    assert selects(policy["podSelector"], labels("overlays/with-servers", "redis"))


def test_the_readme_names_what_is_there() -> None:
    for path in re.findall(r"(?<![\w/])deploy/[\w./-]+\w", README):
        assert (ROOT / path).exists() or path.startswith("deploy/kubernetes/overlays/production")
    for name in re.findall(r"(?:deployment|service)/(\w+)", README):
        assert name in PARTS
    assert all(f"{name} " in README for name in PARTS)
