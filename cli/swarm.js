#!/usr/bin/env node
// biome-ignore-all lint: ES5 only, so that every Node.js can parse it

// This file is the `bin` of package.json. It uses only ES5, and hides import() in eval, so that an old
// Node.js can parse it. On an old Node.js, this file runs the program with a newer Node.js, or prints one
// line about the version instead of a syntax error.
// biome-ignore format: ES5 allows no comma after the last argument of a call
(function () {
  var needed = [22, 18];
  var found = process.versions.node;
  var parts = found.split('.');
  if (Number(parts[0]) < needed[0] || (Number(parts[0]) === needed[0] && Number(parts[1]) < needed[1])) {
    var tooOld = function () {
      console.error(
        'lora-swarm: this is Node.js ' + found + ' (' + process.execPath + ') but lora-swarm needs ' + needed.join('.') +
        ' or newer, for example from "npm install -g node@24"; in a checkout run "npm ci", then "npx lora-swarm ..."'
      );
      process.exit(1);
    };
    // install/newer-node.js itself needs Node.js 16.
    if (Number(parts[0]) < 16) return tooOld();
    return void eval("import('./install/newer-node.js')")
      .then(function (module) {
        return module.runWithNewerNode(needed);
      })
      .then(tooOld, tooOld);
  }

  // Some supported versions of Node.js print that node:sqlite or type stripping is experimental. Users cannot act on
  // that, so those warnings are dropped. All other warnings stay.
  var emitWarning = process.emitWarning;
  process.emitWarning = function (warning, type) {
    var name = warning && warning.name && warning.name !== 'Error' ? warning.name : type;
    if (name && typeof name === 'object') name = name.type;
    if (name !== 'ExperimentalWarning') emitWarning.apply(process, arguments);
  };

  // A checkout runs the TypeScript sources. The published package has JavaScript in dist, because Node.js does not strip
  // types inside node_modules.
  eval("import('./main.ts')")
    .then(undefined, function (error) {
      if (error.code !== 'ERR_MODULE_NOT_FOUND' || !/\/cli\/main\.ts$/.test(String(error.url))) throw error;
      return eval("import('../dist/cli/main.js')");
    })
    .then(function (main) {
      return main.main();
    })
    .then(undefined, function (error) {
      if (error && error.code === 'ERR_MODULE_NOT_FOUND') {
        console.error('lora-swarm: a package is missing (' + error.message.split('\n')[0] + '): run "npm ci" first');
        process.exit(1);
      }
      console.error(error);
      process.exit(70);
    });
})();
