/**
 * lora-swarm as a library: fine-tune a model on one machine, use the result, and run a swarm.
 *
 * The import starts nothing and loads neither an engine nor the network. Each function loads the modules that it needs
 * when it is called. Long-running functions accept an `AbortSignal`. When the signal aborts, they throw its reason. An
 * error that a callback throws ends the call. The call then throws this error, or an error that has it as its `cause`.
 * All other errors are of class {@link SwarmError}, and have a `code` by which programs can tell them apart. Some functions
 * also throw errors of system calls, and say so.
 */
import type { AbortOptions } from './common/abort-reason.ts';
import { requireNode } from './common/node-version.ts';
import type { ApiClient, ConnectOptions, CoordinatorAddress } from './coordinator/client/api-client.ts';
import type { BundleOptions, WrittenBundle } from './coordinator/client/bundle-job.ts';
import type { CloneJobOptions, CreatedJob, CreateJobOptions } from './coordinator/client/create-job.ts';
import type { FollowOptions } from './coordinator/client/follow.ts';
import type { VerifiedCheckpoint } from './coordinator/client/read-checkpoints.ts';
import type { CreatedSweep, SweepSpec } from './coordinator/client/sweep-jobs.ts';
import type {
  CoordinatorDaemonDeps,
  CoordinatorDaemonOptions,
  RunningCoordinator,
} from './coordinator/daemon-options.ts';
import type { HeldOutLosses, HeldOutOptions } from './coordinator/merge/held-out-losses.ts';
import type { PublicPageOptions } from './coordinator/public/settings.ts';
import type { Attempt as WebhookAttempt } from './coordinator/webhooks/delivery.ts';
import type { WebhookSetting } from './coordinator/webhooks/settings.ts';
import type { WebhookTest, WebhookView } from './coordinator/webhooks/webhooks.ts';
import type { ExportedGguf, ExportGgufOptions } from './lora/adapter/export-gguf.ts';
import type { MergeModelOptions } from './lora/adapter/merge-model.ts';
import type { EvaluateOptions, Evaluation } from './lora/evaluate/evaluate.ts';
import type {
  ModelBundle,
  OpenAdapter,
  OpenModelDeps,
  OpenModelOptions,
} from './lora/evaluate/model-bundle.ts';
import type { ReportFacts } from './lora/evaluate/report/report.ts';
import type { EvaluateTasksOptions, TaskEvaluation } from './lora/evaluate/tasks/evaluate-tasks.ts';
import type { EstimateDeps, FinetuneEstimate, FinetuneOptions } from './lora/finetune/finetune.ts';
import type { FinetuneListener, FinetuneResult } from './lora/finetune/listener.ts';
import type { PrepareDeps, PrepareOptions } from './lora/finetune/prepare.ts';
import type { JobSpecInput } from './lora/finetune/settings/job-spec.ts';
import type { Generated, GenerateOptions } from './lora/generate/generate.ts';
import type { OpenGeneratorDeps, OpenGeneratorOptions } from './lora/generate/generator.ts';
import type { Generator } from './lora/generate/types.ts';
import type { NodeDaemonDeps, RunningNode } from './node/daemon/daemon.ts';
import type { NodeDaemonOptions, NodeTarget } from './node/daemon/daemon-options.ts';
import type { PulledCheckpoint, PullOptions } from './node/reader/checkpoint-pull.ts';
import type { VerifySwarmOptions } from './node/reader/verify-from-swarm.ts';
import type { OwnNodeJob } from './node/reader/verify-own-node.ts';
import type { JobEvent } from './protocol/api/job-events.ts';
import type { Figures } from './protocol/messages.ts';
import type { AddOptions } from './registry/add-folder.ts';
import type { Collected, CollectOptions } from './registry/collect-garbage.ts';
import type { VersionDiff } from './registry/diff-versions.ts';
import type { ExportMergedOptions } from './registry/export/export-merged.ts';
import type { ExportVersionGgufOptions } from './registry/export/export-version-gguf.ts';
import type { ImportOptions } from './registry/export/import-oci.ts';
import type { RunCardOptions } from './registry/export/run-card.ts';
import type { HubPullOptions, HubPushOptions } from './registry/hub.ts';
import type { LineageNode } from './registry/lineage.ts';
import type { MergeVersionsOptions } from './registry/merge-versions.ts';
import type { OpenRegistryDeps, OpenRegistryOptions } from './registry/open.ts';
import type { PublishRunOptions } from './registry/publish-run.ts';
import type { Registry } from './registry/registry.ts';
import type { AdapterVersion } from './registry/version.ts';
import type {
  FolderAdapter,
  ModelServer,
  ModelServerDeps,
  ModelServerOptions,
} from './serve/model-server.ts';
import type { ReceiptsReport } from './verify/receipts.ts';
import type { ScoreMismatch, ScoreWitness } from './verify/scores/check-scores.ts';
import type { VerifyOptions, VerifyReport } from './verify/verify-job.ts';
import type { WantedJob } from './verify/wanted-job.ts';

requireNode();

export {
  type ErrorJson,
  type ErrorKind,
  type ErrorOptions,
  isSwarmError,
  SwarmError,
} from './common/errors.ts';
export type { Logger } from './common/logger.ts';
export { mobyDick, nanoModel } from './common/samples.ts';

/**
 * Trains an adapter on this machine and writes it to `output` as a PEFT folder, with checkpoints in the subfolder
 * `checkpoints`. Starts one child process for each device. `lora-swarm train` calls this function.
 *
 * @param listener callbacks for progress and warnings
 * @throws SwarmError USAGE, FOLDER_UNUSABLE, OUTPUT_EXISTS, OUTPUT_BUSY, NOTHING_TO_RESUME, RESUME_CONFLICT, ENGINE_*,
 *   MODEL_*, HUB_*, DATA_*, LORA_*, TRAINER_*, GRADIENT_NOT_FINITE
 */
export async function finetune(
  options: FinetuneOptions,
  listener?: FinetuneListener,
  deps?: PrepareDeps,
): Promise<FinetuneResult> {
  return (await import('./lora/finetune/finetune.ts')).finetune(options, listener, deps);
}

/**
 * Estimates the memory, disk space and time that a fine-tuning run needs. Reads only the beginning of the data,
 * measures the speed of the machine for about a second, and writes nothing to `output`. `lora-swarm train --dry-run`
 * calls this function.
 *
 * @throws SwarmError USAGE, FOLDER_UNUSABLE, ENGINE_*, MODEL_*, HUB_*, DATA_*, LORA_*
 */
export async function estimateFinetune(
  options: PrepareOptions,
  listener?: FinetuneListener,
  deps?: EstimateDeps,
): Promise<FinetuneEstimate> {
  return (await import('./lora/finetune/finetune.ts')).estimateFinetune(options, listener, deps);
}

/**
 * Opens a base with its tokenizer and, optionally, an adapter. Checks that the adapter belongs to the base. The first
 * call for a base writes converted weights to the cache folder. The result holds no process, open file or device memory
 * while none of its functions runs, so it has no `close`.
 *
 * @throws SwarmError MODEL_*, HUB_*, ADAPTER_*, LORA_*, ENGINE_*, BASE_BITS, PRECISION; USAGE for several devices
 */
export async function openModel(options: OpenModelOptions, deps?: OpenModelDeps): Promise<ModelBundle> {
  return (await import('./lora/evaluate/model-bundle.ts')).openModel(options, deps);
}

/**
 * Measures the loss of a model on texts or data files. With the option `against`, compares two models on the same
 * examples. Runs in this process, and blocks its event loop while it computes a batch.
 *
 * @throws SwarmError USAGE if neither or both of `texts` and `data` are given, or if the models have different bases;
 *   EVALUATE_EMPTY, DATA_*, TEMPLATE_*, ENGINE_*
 */
export async function evaluate(model: ModelBundle, options: EvaluateOptions): Promise<Evaluation> {
  return (await import('./lora/evaluate/evaluate.ts')).evaluate(model, options);
}

/**
 * Evaluates a model on tasks. Task files have the YAML keys of lm-evaluation-harness (docs/evaluation.md), and figures
 * and standard errors agree with lm-evaluation-harness 0.4.13. With the option `against`, compares two models on the
 * same documents. Runs in this process, and blocks its event loop while it computes a batch.
 *
 * @throws SwarmError TASK_*, DATA_*, ENGINE_*
 */
export async function evaluateTasks(
  model: ModelBundle,
  options: EvaluateTasksOptions,
): Promise<TaskEvaluation> {
  return (await import('./lora/evaluate/tasks/evaluate-tasks.ts')).evaluateTasks(model, options);
}

/**
 * Writes the report of an evaluation into a folder: one JSON file, a Markdown card with `model-index`, an HTML page,
 * and the files that lm-evaluation-harness writes.
 *
 * @returns the paths of the files
 * @throws SwarmError FOLDER_UNUSABLE; a system error if a file cannot be written
 */
export async function writeReport(
  folder: string,
  evaluation: TaskEvaluation,
  facts: ReportFacts,
): Promise<string[]> {
  return (await import('./lora/evaluate/report/write-report.ts')).writeReport(folder, evaluation, facts);
}

/**
 * Continues a text. The same prompt, options and seed give the same text. Runs in this process, and blocks its event
 * loop while it computes a token. `openGenerator` is better for several texts.
 *
 * @throws SwarmError USAGE, ENGINE_*
 */
export async function generate(model: ModelBundle, options: GenerateOptions): Promise<Generated> {
  return (await import('./lora/generate/generate.ts')).generate(model, options);
}

/**
 * Starts a process that holds a base with any number of adapters, and continues many sequences of tokens at once. It
 * also scores given tokens. The process computes on the processor, not on a GPU. Close the result after use.
 *
 * @throws SwarmError USAGE, MODEL_*, HUB_*, ADAPTER_*, LORA_*, ENGINE_*, GENERATOR_DIED
 */
export async function openGenerator(
  options: OpenGeneratorOptions,
  deps?: OpenGeneratorDeps,
): Promise<Generator> {
  return (await import('./lora/generate/generator.ts')).openGenerator(options, deps);
}

/**
 * Writes a merged model: a Hugging Face folder with the weights of the base, to which the adapter is added.
 *
 * @throws SwarmError MODEL_*, HUB_*, ADAPTER_*, LORA_*, OUTPUT_EXISTS
 */
export async function mergeModel(options: MergeModelOptions): Promise<void> {
  return (await import('./lora/adapter/merge-model.ts')).mergeModel(options);
}

/**
 * Writes a model, or an adapter alone, as a GGUF file for llama.cpp, Ollama and related programs. Writes a Modelfile
 * for Ollama next to a model.
 *
 * @throws SwarmError USAGE, MODEL_*, HUB_*, ADAPTER_*, LORA_*, OUTPUT_EXISTS, GGUF_*
 */
export async function exportGguf(options: ExportGgufOptions): Promise<ExportedGguf> {
  return (await import('./lora/adapter/export-gguf.ts')).exportGguf(options);
}

/**
 * Starts a coordinator and its network in this process. Its control API listens on loopback only. A child process runs
 * the evaluations. The coordinator continues the jobs in its home.
 *
 * @throws SwarmError USAGE, HOME_ROLE, HOME_LOCKED, IDENTITY_CORRUPT, STORE_NEWER, LISTEN_FAILED, TOKEN_INVALID,
 * ENGINE_UNKNOWN
 */
export async function startCoordinator(
  options?: CoordinatorDaemonOptions,
  deps?: CoordinatorDaemonDeps,
): Promise<RunningCoordinator> {
  return (await import('./coordinator/daemon.ts')).startCoordinator(options, deps);
}

/**
 * Starts a node and its network in this process. A child process does the training. The option `invite` names the
 * job, or `targets` names several jobs.
 *
 * @throws SwarmError USAGE, INVITE_INVALID, HOME_ROLE, HOME_LOCKED, IDENTITY_CORRUPT, STORE_NEWER, LISTEN_FAILED,
 * TOKEN_INVALID, ENGINE_UNKNOWN
 */
export async function startNode(options: NodeDaemonOptions, deps?: NodeDaemonDeps): Promise<RunningNode> {
  return (await import('./node/daemon/daemon.ts')).startNode(options, deps);
}

/**
 * Opens a client of a daemon's control API. The client shows status, peers, jobs and checkpoints, and can pause, resume
 * and stop jobs.
 *
 * @param where @default the home of this user's coordinator
 * @throws SwarmError DAEMON_NOT_RUNNING
 */
export async function connect(where?: CoordinatorAddress, options?: ConnectOptions): Promise<ApiClient> {
  return (await import('./coordinator/client/api-client.ts')).ApiClient.connect(where, options);
}

/**
 * Creates a job on a coordinator. The coordinator must run on this machine, because it reads the base and the data from
 * its own disk. Creating the same job again changes nothing. Relative paths start from the current folder. A base on
 * the Hugging Face hub is downloaded first.
 *
 * @param where the coordinator: the result of `startCoordinator`, its home, its URL and token, or a client
 * @param spec the keys of a job file
 * @throws SwarmError JOB_SPEC, DAEMON_NOT_RUNNING, JOB_NOT_CREATED, JOB_EXISTS, HUB_*, MODEL_*, DATA_*, LORA_*
 */
export async function createJob(
  where: CoordinatorAddress | ApiClient,
  spec: JobSpecInput,
  options?: CreateJobOptions,
): Promise<CreatedJob> {
  return (await import('./coordinator/client/create-job.ts')).createJob(where, spec, options);
}

/**
 * Creates a copy of a job on its coordinator, with changed settings. The copy has the same base and held-out rows. It
 * also has the same training data, unless `changes` names other files (`data.train`). `lora-swarm job clone` calls this
 * function.
 *
 * @param where the coordinator: the result of `startCoordinator`, its home, its URL and token, or a client
 * @param job name, digest or a unique prefix of the digest
 * @throws SwarmError JOB_UNKNOWN, SETTING_FIXED, JOB_SPEC, JOB_EXISTS, DAEMON_NOT_RUNNING, JOB_NOT_CREATED, LORA_*, DATA_*
 */
export async function cloneJob(
  where: CoordinatorAddress | ApiClient,
  job: string,
  options?: CloneJobOptions,
): Promise<CreatedJob> {
  return (await import('./coordinator/client/create-job.ts')).cloneJob(where, job, options);
}

/**
 * Makes copies of a job with different settings or training data, and starts a sweep of the copies. Again and
 * again, the coordinator stops the half of the copies with the higher held-out losses. After an interruption,
 * a second call continues the work of the first. `lora-swarm job sweep` calls this function.
 *
 * @param where the coordinator: the result of `startCoordinator`, its home, its URL and token, or a client
 * @throws SwarmError JOB_SPEC, SWEEP_INVALID, JOB_UNKNOWN, SETTING_FIXED, DAEMON_NOT_RUNNING
 */
export async function sweepJobs(
  where: CoordinatorAddress | ApiClient,
  spec: SweepSpec,
  options?: Pick<CreateJobOptions, 'signal' | 'onProgress'>,
): Promise<CreatedSweep> {
  return (await import('./coordinator/client/sweep-jobs.ts')).sweepJobs(where, spec, options);
}

/**
 * Yields all events of a job, past and future, each once. If the coordinator restarts, the iteration continues. The
 * iteration does not end when the job ends, so break out of it at an event of type `finished`.
 *
 * @param where the coordinator, or a function that opens a client
 * @param job name, digest or a unique prefix of the digest
 * @throws SwarmError DAEMON_NOT_RUNNING after a minute without the coordinator; JOB_UNKNOWN
 */
export async function* followEvents(
  where: CoordinatorAddress | (() => Promise<ApiClient>),
  job: string,
  options?: FollowOptions,
): AsyncGenerator<JobEvent, void, undefined> {
  yield* (await import('./coordinator/client/follow.ts')).followEvents(where, job, options);
}

/**
 * Reads the checkpoints of a job from the folder `<home>/checkpoints/<job name>`, where its coordinator keeps them.
 * Verifies their signatures, the digests of their weights, and their order.
 *
 * @returns the checkpoints, oldest first
 * @throws SwarmError SIGNATURE_INVALID, MESSAGE_*, CHECKPOINT_DAMAGED; a system error when the folder cannot be read
 */
export async function readCheckpoints(folder: string, options?: AbortOptions): Promise<VerifiedCheckpoint[]> {
  return (await import('./coordinator/client/read-checkpoints.ts')).readCheckpoints(folder, options);
}

/**
 * Computes the scores of a round again and compares them with the figures that the coordinator published. A witness
 * gets the figures with the request `figures` of the protocol, and computes gradients with the base and the data of the
 * job.
 *
 * @returns the figures that differ; an empty list if all figures are right
 */
export async function checkScores(figures: Figures, witness: ScoreWitness): Promise<ScoreMismatch[]> {
  return (await import('./verify/scores/check-scores.ts')).checkScores(figures, witness);
}

/**
 * Checks the record of a job in a bundle file: signatures, the chain of checkpoints, settings, receipts, weights, and
 * merges bit for bit. docs/verifying.md lists the checks.
 *
 * @returns the checks of each checkpoint, and the problems. The function throws if the file cannot be read as a bundle
 * @throws SwarmError BUNDLE_MALFORMED, BUNDLE_TOO_LARGE, JOB_DIFFERS, ROUND_UNKNOWN
 */
export async function verifyBundle(file: string, options?: VerifyOptions): Promise<VerifyReport> {
  return (await import('./verify/bundle/verify-bundle.ts')).verifyBundle(file, options);
}

/**
 * Checks a file of receipts from the public page of a coordinator. The coordinator must have signed the manifest of the
 * job, and each receipt for the job and the node that the file names.
 *
 * @param text content of the file
 * @throws SwarmError RECEIPTS_MALFORMED, RECEIPTS_OLD, RECEIPTS_SIGNER, JOB_DIFFERS, COORDINATOR_DIFFERS, VERIFY_RECEIPT
 */
export async function verifyReceipts(text: string, wanted?: WantedJob): Promise<ReceiptsReport> {
  return (await import('./verify/receipts.ts')).verifyReceipts(text, wanted);
}

/**
 * Opens the base and the data of a job, so that a verification can measure the held-out losses. Pass the result as
 * `losses` to {@link verifyBundle}, {@link verifySwarm} or {@link verifyOwnJob}, and close the result afterwards. With
 * the option `scores`, the result can also measure the scores of updates: pass its field `scores` as `scores`. The
 * verification throws BASE_DIFFERS, HELD_OUT_DIFFERS or ROWS_DIFFER if base or data are not the base or data of the
 * job.
 */
export async function openHeldOut(options: HeldOutOptions): Promise<HeldOutLosses> {
  return (await import('./coordinator/merge/held-out-losses.ts')).HeldOutLosses.open(options);
}

/**
 * Checks the record of a job of a coordinator on this machine, as {@link verifyBundle} does.
 *
 * @throws SwarmError JOB_UNKNOWN, DAEMON_NOT_RUNNING, JOB_DIFFERS, ROUND_UNKNOWN
 */
export async function verifyOwnJob(
  where: CoordinatorAddress | ApiClient,
  job: string,
  options?: VerifyOptions,
): Promise<VerifyReport> {
  return (await import('./coordinator/client/bundle-job.ts')).verifyOwnJob(where, job, options);
}

/**
 * Checks the record of a job over the network, as {@link verifyBundle} does. Works on any machine with an invite, or
 * with the address of the coordinator of an open job. If the address belongs to a node, checks the part of the record
 * that the node keeps. This also works after the coordinator is gone, but it needs the digest of the job, or the home
 * of a node of this machine that is in the job.
 *
 * @throws SwarmError INVITE_INVALID, NO_ADDRESS, CONNECT_FAILED, JOB_NOT_FOUND, CHECKPOINT_UNTRUSTED, RECORD_INCOMPLETE,
 *   ROUND_UNKNOWN
 */
export async function verifySwarm(
  target: VerifySwarmOptions,
  options?: Omit<VerifyOptions, 'job'>,
): Promise<VerifyReport> {
  return (await import('./node/reader/verify-from-swarm.ts')).verifySwarm(target, options);
}

/**
 * Checks the part of a job's record that a node of this machine keeps, as {@link verifyBundle} does. Needs no network.
 *
 * @throws SwarmError JOB_NOT_FOUND, JOB_DIFFERS, COORDINATOR_DIFFERS, ROUND_UNKNOWN, CHECKPOINT_UNTRUSTED, STORE_REFUSED
 */
export async function verifyOwnNode(node: OwnNodeJob, options?: VerifyOptions): Promise<VerifyReport> {
  return (await import('./node/reader/verify-own-node.ts')).verifyOwnNode(node, options);
}

/**
 * Writes the bundle of a job of a coordinator on this machine: one file with everything that a verification needs. The
 * file is whole or does not exist. Blobs that the coordinator could not repair are left out, and the result names them.
 *
 * @throws SwarmError OUTPUT_EXISTS, JOB_UNKNOWN, DAEMON_NOT_RUNNING, STORE_FULL, WRITE_FAILED
 */
export async function bundleJob(
  where: CoordinatorAddress | ApiClient,
  job: string,
  file: string,
  options?: BundleOptions,
): Promise<WrittenBundle> {
  return (await import('./coordinator/client/bundle-job.ts')).bundleJob(where, job, file, options);
}

/**
 * Downloads the newest checkpoint of a job from its swarm and writes it as a PEFT folder. Works on any machine. After
 * an interrupted call, the next call continues the download.
 *
 * @throws SwarmError INVITE_INVALID, NO_ADDRESS, FOLDER_UNUSABLE, CONNECT_FAILED, JOB_NOT_FOUND, CHECKPOINT_UNTRUSTED
 */
export async function pullCheckpoint(options: PullOptions): Promise<PulledCheckpoint> {
  return (await import('./node/reader/checkpoint-pull.ts')).pullCheckpoint(options);
}

/**
 * Opens a registry of adapters on this machine. Several processes may use a registry at the same time. Close the
 * registry after use.
 *
 * @throws SwarmError FOLDER_UNUSABLE, STORE_NEWER, STORE_CORRUPT, STORE_REFUSED
 */
export async function openRegistry(
  options?: OpenRegistryOptions,
  deps?: OpenRegistryDeps,
): Promise<Registry> {
  return (await import('./registry/open.ts')).openRegistry(options, deps);
}

/**
 * Adds a PEFT folder to a registry as a version. Copies its files. If the name already has a version with the same base
 * and files, returns that version.
 *
 * @returns the version, and whether it is new
 * @throws SwarmError BASE_UNKNOWN, ADAPTER_BASE, ADAPTER_*, MODEL_*, TENSORS_*, FILE_CHANGED, STORE_FULL, WRITE_FAILED
 */
export async function addFolder(
  registry: Registry,
  options: AddOptions,
): Promise<{ version: AdapterVersion; created: boolean }> {
  return (await import('./registry/add-folder.ts')).addFolder(registry, options);
}

/**
 * Writes the model card of a finished training run, with its losses and settings, into the output folder of the run.
 * Leaves an existing README.md as it is, unless `force` is set. `lora-swarm train` calls this function.
 *
 * @throws SwarmError RUN_MISSING, ADAPTER_*, STORE_FULL, WRITE_FAILED
 */
export async function writeRunCard(options: RunCardOptions): Promise<void> {
  return (await import('./registry/export/run-card.ts')).writeRunCard(options);
}

/**
 * Adds the adapter of a finished training run to a registry, with the run's settings, the digests of its data, its
 * losses, and the version that it started from. `lora-swarm train` calls this function.
 *
 * @throws SwarmError RUN_MISSING, and the errors of `addFolder`
 */
export async function publishRun(
  registry: Registry,
  options: PublishRunOptions,
): Promise<{ version: AdapterVersion; created: boolean }> {
  return (await import('./registry/publish-run.ts')).publishRun(registry, options);
}

/**
 * Compares two versions: settings, metrics, and the change of each module's weight (norm, cosine, effective rank).
 *
 * @throws SwarmError VERSION_DAMAGED, ADAPTER_TENSORS, ADAPTER_CONFIG, ADAPTER_NOT_FINITE
 */
export async function diffVersions(
  registry: Registry,
  first: AdapterVersion,
  second: AdapterVersion,
  options?: AbortOptions,
): Promise<VersionDiff> {
  return (await import('./registry/diff-versions.ts')).diffVersions(registry, first, second, options);
}

/**
 * Merges versions of one base into a new version, with the methods of PEFT's `add_weighted_adapter`.
 *
 * @throws SwarmError ADAPTER_BASE, COMBINE_PARTS, COMBINE_RANKS, LORA_CONFIG, VERSION_DAMAGED
 */
export async function mergeVersions(
  registry: Registry,
  options: MergeVersionsOptions,
): Promise<{ version: AdapterVersion; created: boolean }> {
  return (await import('./registry/merge-versions.ts')).mergeVersions(registry, options);
}

/** Returns the versions that a version was made from, as a tree. */
export async function lineageOf(registry: Registry, version: AdapterVersion): Promise<LineageNode> {
  return (await import('./registry/lineage.ts')).lineageOf(registry, version);
}

/**
 * Writes a version as a PEFT folder, with a model card for the Hugging Face hub (`README.md`) and its manifest
 * (`swarm.json`).
 *
 * @param output folder to write into; files of the same names are overwritten
 * @throws SwarmError VERSION_DAMAGED, STORE_FULL, WRITE_FAILED, FOLDER_UNUSABLE
 */
export async function exportFolder(
  registry: Registry,
  version: AdapterVersion,
  output: string,
  options?: AbortOptions,
): Promise<void> {
  return (await import('./registry/export/export-folder.ts')).exportFolder(
    registry,
    version,
    output,
    options,
  );
}

/**
 * Writes a version as a GGUF file for llama.cpp and Ollama: the adapter alone, or merged into its base.
 *
 * @throws SwarmError BASE_UNKNOWN, ADAPTER_BASE, and the errors of `exportGguf`
 */
export async function exportVersionGguf(
  registry: Registry,
  version: AdapterVersion,
  options: ExportVersionGgufOptions,
): Promise<ExportedGguf> {
  return (await import('./registry/export/export-version-gguf.ts')).exportVersionGguf(
    registry,
    version,
    options,
  );
}

/**
 * Writes a merged model: the base with a version added to its weights.
 *
 * @throws SwarmError BASE_UNKNOWN, ADAPTER_BASE, and the errors of `mergeModel`
 */
export async function exportMerged(
  registry: Registry,
  version: AdapterVersion,
  options: ExportMergedOptions,
): Promise<void> {
  return (await import('./registry/export/export-merged.ts')).exportMerged(registry, version, options);
}

/**
 * Writes a version as an OCI image layout with the media types of ModelPack.
 *
 * @returns the digest of the image manifest, "sha256:…"
 * @throws SwarmError VERSION_DAMAGED, STORE_FULL, WRITE_FAILED, FOLDER_UNUSABLE
 */
export async function exportOci(
  registry: Registry,
  version: AdapterVersion,
  output: string,
  options?: AbortOptions,
): Promise<string> {
  return (await import('./registry/export/export-oci.ts')).exportOci(registry, version, output, options);
}

/**
 * Adds a version from an OCI image layout that `exportOci` wrote. Checks the signature of the version and the
 * digests of its files.
 *
 * @throws SwarmError OCI_INVALID, IMPORT_DAMAGED, SIGNATURE_INVALID, MESSAGE_*, STORE_FULL, WRITE_FAILED
 */
export async function importOci(
  registry: Registry,
  options: ImportOptions,
): Promise<{ version: AdapterVersion; created: boolean }> {
  return (await import('./registry/export/import-oci.ts')).importOci(registry, options);
}

/**
 * Uploads a version with its model card to a model repository on a Hugging Face hub. Creates the repository if it does
 * not exist.
 *
 * @throws SwarmError USAGE, VERSION_DAMAGED, HUB_*
 */
export async function pushToHub(
  registry: Registry,
  version: AdapterVersion,
  options: HubPushOptions,
): Promise<{ commit: string; url: string }> {
  return (await import('./registry/hub.ts')).pushToHub(registry, version, options);
}

/**
 * Downloads an adapter from a repository on a Hugging Face hub and adds it as a version.
 *
 * @throws SwarmError USAGE, HUB_*, IMPORT_DAMAGED, SIGNATURE_INVALID, BASE_UNKNOWN, and the errors of `addFolder`
 */
export async function pullFromHub(
  registry: Registry,
  options: HubPullOptions,
): Promise<{ version: AdapterVersion; created: boolean }> {
  return (await import('./registry/hub.ts')).pullFromHub(registry, options);
}

/**
 * Finds the files that no version of a registry needs, and deletes them if asked to. Keeps files that became unneeded
 * in the last 24 hours, and files that a running addition or export of any process needs.
 */
export async function collectGarbage(registry: Registry, options?: CollectOptions): Promise<Collected> {
  return (await import('./registry/collect-garbage.ts')).collectGarbage(registry, options);
}

/**
 * Serves a model and its adapters over HTTP, with OpenAI's API. The generator in `deps` computes the model, in another
 * process. `lora-swarm serve` calls this function.
 *
 * @throws SwarmError USAGE, API_KEY_MISSING, MODEL_NAME_TAKEN, MODEL_NOT_SERVED, ADAPTER_*, LORA_*,
 *   TEMPLATE_UNREADABLE, LISTEN_FAILED
 */
export async function startModelServer(
  options: ModelServerOptions,
  deps: ModelServerDeps,
): Promise<ModelServer> {
  return (await import('./serve/model-server.ts')).startModelServer(options, deps);
}

export type { JobDataReport, JobProgress } from './coordinator/client/create-job.ts';
export type { SignRule } from './lora/adapter/combine/elementwise.ts';
export type { CombineMethod } from './lora/adapter/combine/methods.ts';
export type { ModuleComparison } from './lora/adapter/compare.ts';
export type { LoraConfig } from './lora/adapter/lora-config.ts';
export type { StartAdapter } from './lora/adapter/start.ts';
export type { Device, EngineName } from './lora/engines/names.ts';
export type { Comparison, MetricComparison } from './lora/evaluate/compare/compare.ts';
export type { Judged } from './lora/evaluate/compare/holm.ts';
export type { LossComparison } from './lora/evaluate/compare/losses.ts';
export type { LossCurve, LossPoint } from './lora/evaluate/report/loss-curve.ts';
export type { ModelNames } from './lora/evaluate/report/report.ts';
export type { ScoreProgress } from './lora/evaluate/score.ts';
export type { ModelEvaluation, TaskProgress } from './lora/evaluate/tasks/evaluate-tasks.ts';
export type { TaskResults } from './lora/evaluate/tasks/results.ts';
export type { TaskFigures } from './lora/evaluate/tasks/task-figures.ts';
export type { DiskEstimate, RunEstimate } from './lora/finetune/estimate.ts';
export type { PackedPart, RunEvaluation, RunPlan, RunStep } from './lora/finetune/listener.ts';
export type { RunMemory } from './lora/finetune/memory.ts';
export type { Publication } from './lora/finetune/settings/run-settings.ts';
export type { FinetuneSettings } from './lora/finetune/settings/settings.ts';
export type {
  GeneratedToken,
  GenerateRequest,
  Generation,
  GenerationResult,
  GeneratorStatus,
  LoadedAdapter,
  Sampling,
  ScoredToken,
  ScoreRequest,
  TokenLogprob,
} from './lora/generate/types.ts';
export type { GgufType } from './lora/models/gguf/format.ts';
export type { FetchProgress } from './lora/models/hub/fetch-model.ts';
export type {
  Compute,
  ComputeInput,
  ComputeOnDevices,
  Devices,
  ResolvedCompute,
} from './lora/train/compute.ts';
export type { ChosenEngine } from './lora/train/devices/choose.ts';
export type { Fallback } from './lora/train/devices/fallback.ts';
export type { MachineSpeed } from './lora/train/devices/speed.ts';
export type { Choice, PresetName } from './lora/train/presets.ts';
export type { StoppingRule } from './lora/train/stopping.ts';
export type { LossGradient } from './lora/update/score.ts';
export type { GivenLimits } from './node/limits/owner-limits.ts';
export type { NodePolicy } from './node/limits/policy.ts';
export type { JobTarget } from './protocol/access/invite.ts';
export type {
  CheckpointView,
  CoordinatorStatus,
  CreatedInvite,
  CreateInviteOptions,
  InviteState,
  InviteView,
  JobDetail,
  JobSummary,
  PendingOrder,
} from './protocol/api/coordinator.ts';
export type { HealthLevel, HealthMark } from './protocol/api/health.ts';
export type { BadRow, Origin, RowSummary, RowTally } from './protocol/api/job-creation.ts';
export type { DamagedWhat, JobEventBody, Standing, StrikeKind } from './protocol/api/job-events.ts';
export type { CheckpointTasks, JobTasksView, SamplesView, SettingsChange } from './protocol/api/job-parts.ts';
export type {
  ClockJump,
  CoordinatorRecord,
  Hold,
  JobTotals,
  KeptLimits,
  NodeActivity,
  NodeCost,
  NodeJob,
  NodeJobStatus,
  NodeSettingsChange,
  NodeStatus,
  NodeUpdate,
  Outcome,
  Pause,
  PauseReason,
  Traffic,
} from './protocol/api/node.ts';
export type {
  BanOptions,
  BanView,
  FormerPeer,
  PeerReceipts,
  PeerScore,
  PeerStanding,
  PeerStrike,
  PeerView,
} from './protocol/api/peers.ts';
export type { AddressCheck, AddressReach, Reach } from './protocol/api/reach.ts';
export type { SampleResult, SampleText } from './protocol/api/samples.ts';
export type { SweepJobView, SweepView } from './protocol/api/sweeps.ts';
export type { JobContribution } from './protocol/contribution.ts';
export type { HoldReason } from './protocol/holds.ts';
export type { ChangedSetting } from './protocol/job/settings.ts';
export type { ReachResult } from './protocol/requests/reach-request.ts';
export type { VersionManifest } from './protocol/version-manifest.ts';
export type { VersionFacts } from './registry/add-folder.ts';
export type { FactChange } from './registry/diff-versions.ts';
export type { HubAccount } from './registry/hub.ts';
export type { KnownBase } from './registry/known-base.ts';
export type { VersionReference } from './registry/reference.ts';
export type { TagChange } from './registry/store/tags.ts';
export type { Measurement } from './registry/store/versions.ts';
export type { ServedRequest } from './serve/http/context.ts';
export type { AdapterSource, ServedVersion, VersionChoice } from './serve/models/adapter-source.ts';
export type { ModelEntry } from './serve/models/catalog.ts';
export type { MissingBlob } from './verify/bundle/format.ts';
export type { LossMeter, MeasuredJob } from './verify/checks/losses.ts';
export type { RowsOfRound, ScoreMeter } from './verify/checks/scores.ts';
export type { ProblemCode } from './verify/errors.ts';
export type {
  CheckName,
  CheckpointReport,
  MeasuredLoss,
  MeasuredScores,
  Problem,
} from './verify/findings.ts';
export type { HeldPart, HeldWeights } from './verify/held-part.ts';
export type { ScoreMismatch, ScoreWitness } from './verify/scores/check-scores.ts';
export type {
  AbortOptions,
  AdapterVersion,
  AddOptions,
  ApiClient,
  BundleOptions,
  CloneJobOptions,
  Collected,
  CollectOptions,
  ConnectOptions,
  CoordinatorAddress,
  CoordinatorDaemonDeps,
  CoordinatorDaemonOptions,
  CreatedJob,
  CreatedSweep,
  CreateJobOptions,
  EstimateDeps,
  EvaluateOptions,
  EvaluateTasksOptions,
  Evaluation,
  ExportedGguf,
  ExportGgufOptions,
  ExportMergedOptions,
  ExportVersionGgufOptions,
  FinetuneEstimate,
  FinetuneListener,
  FinetuneOptions,
  FinetuneResult,
  FolderAdapter,
  FollowOptions,
  Generated,
  GenerateOptions,
  Generator,
  HeldOutLosses,
  HeldOutOptions,
  HubPullOptions,
  HubPushOptions,
  ImportOptions,
  JobEvent,
  JobSpecInput,
  LineageNode,
  MergeModelOptions,
  MergeVersionsOptions,
  ModelBundle,
  ModelServer,
  ModelServerDeps,
  ModelServerOptions,
  NodeDaemonDeps,
  NodeDaemonOptions,
  NodeTarget,
  OpenAdapter,
  OpenGeneratorDeps,
  OpenGeneratorOptions,
  OpenModelDeps,
  OpenModelOptions,
  OpenRegistryDeps,
  OpenRegistryOptions,
  OwnNodeJob,
  PrepareDeps,
  PrepareOptions,
  PublicPageOptions,
  PublishRunOptions,
  PulledCheckpoint,
  PullOptions,
  ReceiptsReport,
  Registry,
  ReportFacts,
  RunCardOptions,
  RunningCoordinator,
  RunningNode,
  SweepSpec,
  TaskEvaluation,
  VerifiedCheckpoint,
  VerifyOptions,
  VerifyReport,
  VerifySwarmOptions,
  VersionDiff,
  WantedJob,
  WebhookAttempt,
  WebhookSetting,
  WebhookTest,
  WebhookView,
  WrittenBundle,
};
