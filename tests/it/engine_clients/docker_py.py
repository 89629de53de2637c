"""docker-py against an engine. Arguments: the registry's host, user, password, and the folder of the context."""

import io
import sys

import docker

HOST, USER, PASSWORD, CONTEXT = sys.argv[1:]
APP = f"{HOST}/app"


def fails(what, *words):
    """The error of a call, which has all of the words in its text."""
    try:
        what()
    except docker.errors.DockerException as error:
        text = getattr(error, "msg", None) or str(error)
        assert all(word in str(text) for word in words), text
        return error
    raise AssertionError("it did not fail")


client = docker.from_env(timeout=60)
assert client.ping()
assert client.version()["Version"].startswith("28.")
assert client.info()["OSType"] == "linux"
assert client.containers.list(all=True) == []

# Logins are checked with the registry, and kept by the client.
fails(lambda: client.login(USER, "wrong", registry=HOST))
fails(lambda: client.images.pull(f"{HOST}/library/busybox", tag="latest"), "denied")
assert client.login(USER, PASSWORD, registry=HOST)["Status"] == "Login Succeeded"

# The base: a build takes no layer of it that it does not need, and `save` has no credentials to fetch one.
assert client.images.pull(f"{HOST}/library/busybox", tag="latest").tags

# Builds: arguments, labels, a stage, a file with another name, a Dockerfile alone, one that fails.
build = dict(path=CONTEXT, rm=True, forcerm=True)
image, log = client.images.build(
    tag=f"{APP}:1", buildargs={"WHO": "me"}, labels={"a": "b"}, target="first", **build
)
log = "".join(line.get("stream", "") for line in log)
assert "Successfully built" in log and f"Successfully tagged {APP}:1" in log, log
assert "WHO=me" in image.attrs["Config"]["Env"] and image.labels["a"] == "b"
other, _ = client.images.build(tag="other", dockerfile="Other.Dockerfile", **build)
assert other.id != image.id
alone, _ = client.images.build(fileobj=io.BytesIO(b"FROM scratch\nLABEL c=d\n"), tag="alone")
assert alone.labels == {"c": "d"}
error = fails(lambda: client.images.build(target="broken", **build), "exit code: 7")
assert isinstance(error, docker.errors.BuildError), repr(error)
fails(lambda: client.images.build(target="nowhere", **build), "nowhere")

# Names, lists, history.
assert image.tag("second", tag="2")
image.reload()
assert sorted(image.tags) == sorted([f"{APP}:1", "second:2"]), image.tags
assert image.id in [one.id for one in client.images.list(name=APP)]
assert client.images.list(filters={"label": "a=b"}) == [image]
assert any("COPY hello" in step["CreatedBy"] for step in image.history())

# To the registry and back.
pushed = list(client.images.push(APP, tag="1", stream=True, decode=True))
assert any("Digest" in line.get("aux", {}) for line in pushed), pushed
assert not any("error" in line for line in pushed), pushed
data = client.images.get_registry_data(f"{APP}:1")
assert data.id.startswith("sha256:")
fails(lambda: client.images.push("absent", tag="1"), "absent")
saved = b"".join(image.save(named="second:2"))
for name in (f"{APP}:1", "second:2"):
    client.images.remove(name)
fails(lambda: client.images.get("second:2"), "No such image")
(loaded,) = client.images.load(saved)
assert loaded.id == image.id and loaded.tags == ["second:2"]
client.images.remove("second:2")
assert client.images.pull(APP, tag="1").id == image.id
fails(lambda: client.images.pull(APP, tag="none"), "manifest unknown")

# What is left goes.
client.images.remove("alone:latest")
assert client.df()["Images"]
client.images.prune(filters={"dangling": False})
assert client.images.list() == []
client.api.prune_builds()
client.containers.prune()
print("done")
