// What a program in Node sees of its machine.
const { execFileSync } = require("node:child_process");
const fs = require("node:fs");
const { Worker } = require("node:worker_threads");
const isOdd = require("is-odd");

console.log(isOdd(3), process.execPath, fs.readlinkSync("/proc/self/exe"));
console.log(execFileSync(process.execPath, ["-p", "process.version.length > 3"]).toString().trim());
console.log(fs.readFileSync("/dev/stdin").length, fs.existsSync("/proc/self/status"));
new Worker("require('worker_threads').parentPort.postMessage('worker')", { eval: true }).on("message", console.log);
