/**
 * Imported for its effect before onnxruntime is loaded. onnxruntime 1.30's prebuilt libraries for Linux and macOS report their
 * use to their maker unless this is set, and on Linux keep a device id in the user's cache. Nobody who lends a GPU has agreed
 * to that. The one for Windows does not know the variable (docs/engines.md).
 */
process.env.ORT_DISABLE_TELEMETRY = '1';
