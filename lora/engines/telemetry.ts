/**
 * Switches off the telemetry of onnxruntime. Import this file before onnxruntime. Without
 * ORT_DISABLE_TELEMETRY, the prebuilt libraries of onnxruntime 1.30 for Linux and macOS report their use to
 * Microsoft, and on Linux store a device id in the user's cache. Contributors have not agreed to these
 * reports. The Windows library does not read the variable (docs/engines.md).
 */
process.env.ORT_DISABLE_TELEMETRY = '1';
