#!/usr/bin/env node
// biome-ignore-all lint: ES5 only, so that any Node.js can parse it

// The file that `bin` names. A Node.js that is too old is told so in one line instead of in a syntax error: nothing
// newer than ES5 stands here, and import() only inside eval.
// biome-ignore format: a comma after the last argument of a call is newer than ES5
(function () {
  var needed = [22, 18];
  var found = process.versions.node;
  var parts = found.split('.');
  if (Number(parts[0]) < needed[0] || (Number(parts[0]) === needed[0] && Number(parts[1]) < needed[1])) {
    console.error(
      'swarm: this is Node.js ' + found + ' (' + process.execPath + ') and lora-swarm needs ' + needed.join('.') +
      ' or newer: in a checkout run "npm ci", then "npx swarm ..." or "npm run ...", which bring their own Node.js'
    );
    process.exit(1);
  }

  // node:sqlite and type stripping are "experimental" by name in some of the versions we support; that notice is for
  // us, not for users. Everything else that Node.js warns about stays.
  var emitWarning = process.emitWarning;
  process.emitWarning = function (warning, type) {
    var name = warning && warning.name && warning.name !== 'Error' ? warning.name : type;
    if (name && typeof name === 'object') name = name.type;
    if (name !== 'ExperimentalWarning') emitWarning.apply(process, arguments);
  };

  // A checkout runs its TypeScript; the published package has JavaScript in dist, for Node.js does not strip types
  // below node_modules.
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
        console.error('swarm: a package is missing (' + error.message.split('\n')[0] + '): run "npm ci" first');
        process.exit(1);
      }
      console.error(error);
      process.exit(70);
    });
})();
