/**
 * The wire protocol of the swarm, without I/O: messages, signatures, encryption, manifests, invites, ids and limits.
 */
export { decodeCbor, encodeCbor, sha256 } from './cbor.ts';
export { type HeadOrder, isNewer } from './head-order.ts';
export {
  bytesSchema,
  digestSchema,
  nameSchema,
  peerIdOf,
  peerIdSchema,
  publicKeyOf,
  shortPeer,
} from './ids.ts';
export {
  decodeInvite,
  encodeInvite,
  INVITE_ADDRESSES,
  INVITE_CHARACTERS,
  type Invite,
  type JobTarget,
  looksLikeInvite,
  resolveTarget,
} from './invite.ts';
export {
  type BlobEnds,
  type BlobProof,
  decryptHead,
  encryptHead,
  type JobKey,
  keyIdOf,
  proveMembership,
  provesMembership,
} from './job-key.ts';
export { type JobKeysMessage, jobKeysSchema } from './job-keys-message.ts';
export * as limits from './limits.ts';
export * from './manifest.ts';
export * from './messages.ts';
export { counts, type ReceiptCode, receiptCodes, receiptMeanings } from './receipts.ts';
export {
  BLOB_PROTOCOL,
  RPC_PROTOCOL,
  type RpcMethod,
  type RpcRequest,
  type RpcResponse,
  rpcMethods,
} from './rpc.ts';
export { type SealContext, SealingKey, seal } from './sealing.ts';
export { firstSettings, type RunningSettings, runningSettingsSchema } from './settings.ts';
export { settingsAt, type VerifiedSettings, verifySettings } from './settings-chain.ts';
export { type Signer, signerFromSeed, signMessage, type Verified, verifyMessage } from './signing.ts';
export { type JobChannel, jobChannels, jobTopic, parseJobTopic } from './topics.ts';
export { type VersionManifest, versionManifestSchema } from './version-manifest.ts';
