/**
 * Sets the environment variables of libtensorflow that the user has not set. libtensorflow reads them when it is
 * loaded. Only the main thread can set them, because a worker thread has a copy of the environment.
 *
 * @param threads number of threads that compute one operation together
 */
export function setTensorFlowEnvironment(threads: number): void {
  process.env.TF_NUM_INTRAOP_THREADS ??= `${threads}`;
  // Level 1 hides messages about the processor, and shows warnings, for example that a CUDA library is missing.
  process.env.TF_CPP_MIN_LOG_LEVEL ??= '1';
}
