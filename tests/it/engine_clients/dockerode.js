// dockerode against an engine. Arguments: the registry's host, user, password, and the folder of the context.
const assert = require("node:assert");
const { Readable } = require("node:stream");
const Docker = require("dockerode");

const [host, username, password, context] = process.argv.slice(2);
const authconfig = { username, password, serveraddress: host };
const app = `${host}/app`;
const docker = new Docker();

// The messages of a call that answers with progress; its error is thrown.
const follow = (stream) =>
  new Promise((done, fail) =>
    docker.modem.followProgress(stream, (error, lines) => {
      const last = (lines || []).find((line) => line.error);
      if (error || last) fail(error || new Error(last.error));
      else done(lines);
    }),
  );

const bytes = async (stream) => {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces);
};

const fails = async (what, word) =>
  assert.rejects(what, (error) => {
    assert.ok(String(error.message).includes(word), error.message);
    return true;
  });

async function main() {
  assert.strictEqual((await docker.ping()).toString(), "OK");
  assert.ok((await docker.version()).Version.startsWith("28."));
  assert.deepStrictEqual(await docker.listContainers({ all: true }), []);
  assert.strictEqual((await docker.checkAuth(authconfig)).Status, "Login Succeeded");
  await fails(docker.checkAuth({ ...authconfig, password: "wrong" }), "");

  // The base: a build takes no layer of it that it does not need, and `get` has no credentials to fetch one.
  await follow(await docker.pull(`${host}/library/busybox:latest`, { authconfig }));

  // Builds in both ways.
  const src = ["Dockerfile", "Other.Dockerfile", "hello"];
  const registryconfig = { [host]: { username, password } };
  const build = async (options) =>
    follow(await docker.buildImage({ context, src }, { registryconfig, ...options }));
  const built = await build({ t: `${app}:1`, target: "first", buildargs: { WHO: "me" } });
  const said = built.map((line) => line.stream || "").join("");
  assert.ok(said.includes(`Successfully tagged ${app}:1`), said);
  const image = docker.getImage(`${app}:1`);
  const { Id, Config } = await image.inspect();
  assert.ok(Config.Env.includes("WHO=me"), Config.Env);
  const session = { version: "2", authconfig, t: "second:2", target: "first", buildargs: { WHO: "me" } };
  const traced = await follow(await docker.buildImage({ context, src }, session));
  assert.ok(traced.some((line) => line.id === "moby.buildkit.trace"), JSON.stringify(traced));
  assert.ok((await docker.getImage("second:2").inspect()).Config.Env.includes("WHO=me"));
  await fails(build({ target: "broken" }), "exit code: 7");
  await fails(build({ dockerfile: "None" }), "None");

  // Names, lists, history.
  await image.tag({ repo: "third", tag: "3" });
  const listed = await docker.listImages({ filters: { reference: ["third"] } });
  assert.deepStrictEqual(listed.map((one) => one.Id), [Id]);
  assert.ok((await image.history()).some((step) => step.CreatedBy.includes("COPY hello")));

  // To the registry and back.
  const pushed = await follow(await image.push({ authconfig, tag: "1" }));
  assert.ok(pushed.some((line) => line.aux && line.aux.Digest), JSON.stringify(pushed));
  assert.ok((await image.distribution({ authconfig })).Descriptor.digest.startsWith("sha256:"));
  const saved = await bytes(await docker.getImage("third:3").get());
  for (const name of [`${app}:1`, "third:3"]) await docker.getImage(name).remove();
  await fails(image.inspect(), "No such image");
  await follow(await docker.loadImage(Readable.from([saved])));
  assert.strictEqual((await docker.getImage("third:3").inspect()).Id, Id);
  await docker.getImage("third:3").remove();
  await follow(await docker.pull(`${app}:1`, { authconfig }));
  assert.strictEqual((await image.inspect()).Id, Id);
  await fails(docker.pull(`${app}:none`, { authconfig }), "manifest unknown");

  await docker.df();
  await docker.pruneImages({ filters: { dangling: ["false"] } });
  assert.deepStrictEqual(await docker.listImages(), []);
  await docker.pruneBuilder();
  await docker.pruneContainers();
  console.log("done");
}

main().catch((error) => {
  console.error(error);
  process.exitCode = 1;
});
