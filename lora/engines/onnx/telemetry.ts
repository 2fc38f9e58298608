/**
 * Imported for its effect before onnxruntime is loaded. onnxruntime 1.30's prebuilt library on Linux reports its use to its
 * maker and keeps a device id in the user's cache unless this is set. Nobody who lends a GPU has agreed to that.
 */
process.env.ORT_DISABLE_TELEMETRY = '1';
