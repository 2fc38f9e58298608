/**
 * The wire protocol of the swarm, without I/O: messages, signatures, encryption, manifests, invites, ids and limits.
 */

export {
  decodeInvite,
  encodeInvite,
  INVITE_ADDRESSES,
  INVITE_CHARACTERS,
  type Invite,
  type JobTarget,
  looksLikeInvite,
  resolveTarget,
} from './access/invite.ts';
export {
  type BlobEnds,
  type BlobProof,
  decryptHead,
  encryptHead,
  type JobKey,
  keyIdOf,
  proveMembership,
  provesMembership,
} from './access/job-key.ts';
export { type JobKeysMessage, jobKeysSchema } from './access/job-keys-message.ts';
export { type SealContext, SealingKey, seal } from './access/sealing.ts';
export { decodeCbor, encodeCbor, sha256 } from './cbor.ts';
export {
  bytesSchema,
  digestSchema,
  nameSchema,
  peerIdOf,
  peerIdSchema,
  publicKeyOf,
  shortPeer,
} from './ids.ts';
export { type HeadOrder, isNewer } from './job/head-order.ts';
export * from './job/manifest.ts';
export { firstSettings, type RunningSettings, runningSettingsSchema } from './job/settings.ts';
export { type JobChannel, jobChannels, jobTopic, parseJobTopic } from './job/topics.ts';
export * as limits from './limits.ts';
export * from './messages.ts';
export { counts, type ReceiptCode, receiptCodes, receiptMeanings } from './receipts.ts';
export {
  BLOB_PROTOCOL,
  RPC_PROTOCOL,
  type RpcMethod,
  type RpcRequest,
  type RpcResponse,
  rpcMethods,
} from './requests/rpc.ts';
export { settingsAt, type VerifiedSettings, verifySettings } from './settings-chain.ts';
export { type Signer, signerFromSeed, signMessage, type Verified, verifyMessage } from './signing.ts';
export { type VersionManifest, versionManifestSchema } from './version-manifest.ts';
