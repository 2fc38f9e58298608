/**
 * Features that differ between operating systems, and the shipped files that use them. Each file has a note on its guard:
 * the reason why it works on all systems. test/unit/house/portability.test.ts compares this table with the sources.
 */
import type { SourceFile } from './sources.ts';

interface SystemFeature {
  /** Matches the code of a file that uses the feature. Comments are not searched. */
  readonly pattern: RegExp;
  /** The difference between the systems. */
  readonly about: string;
  /** Files that use the feature, each with the reason why it works on the other systems. */
  readonly files: Readonly<Record<string, string>>;
}

const JUST_SHOWN = 'part of a text or a key; no behaviour depends on it';
const KILL =
  "Node.js' kill() of a child it started: Windows ends the process at once too, and reports the same signal";
const MODE = 'Windows ignores the mode: the rights of the folder apply (docs/systems.md)';
const FILE_URL = 'only as an argument of fileURLToPath or fork';
const WRITE_HANDLE = 'the handle is open for writing, which Windows asks for';

export const SYSTEM_FEATURES: Readonly<Record<string, SystemFeature>> = {
  platform: {
    pattern: /\bprocess\.(platform|arch)\b/,
    about: 'a branch for one system is code that Linux never runs',
    files: {
      'cli/commands/service.ts':
        'chooses the service manager; on other systems, the command says that there is none',
      'cli/install/newer-node.js': 'Windows: node.exe, and a shell that starts npm',
      'lora/doctor/machine.ts':
        'sysctl on macOS, /proc/cpuinfo elsewhere; without either the instructions are unknown',
      'cli/daemon/helper-process.ts': 'Windows: asks by a message to stop, kills without a process group',
      'cli/wrapped-command.ts': 'Windows: long commands stay on one line',
      'cli/signals.ts': 'Windows: Ctrl-Break drains as well',
      'cli/daemon/open-file.ts':
        'open on macOS, rundll32 on Windows; a failure is reported with the way without it',
      'common/files/durable.ts': 'Windows: renames are tried again, folders are not synced',
      'storage/private-home.ts': 'Windows: does nothing, as rights belong to the folder of the user',
      'lora/models/hub/settings.ts': 'Windows: "~\\" means the home folder as "~/" does',
      'lora/train/devices/choose.ts': JUST_SHOWN,
      'node/limits/owner-limits.ts':
        'a probe for each of Linux, macOS and Windows; elsewhere, the node is never polite',
      'lora/train/devices/fallback.ts':
        'Windows: exit codes say that memory ran out, as there are no signals',
      'lora/train/memory/mac-memory.ts': 'macOS: vm_stat; where it fails, what Node.js says',
    },
  },
  'files of Linux': {
    pattern: /['"`]\/?(proc|sys|dev|tmp)[/'"`]/,
    about: 'only Linux has /proc, /sys and these names in /dev; Windows has no /tmp',
    files: {
      'lora/doctor/machine.ts': 'a missing file: the instructions are unknown',
      'node/limits/machine/macos.ts': '/dev/console exists on macOS too',
      'node/limits/machine/linux.ts':
        'probe-of.ts uses this file on Linux only; a missing file means unknown',
      'lora/train/memory/available-memory.ts': 'a missing file limits nothing',
      'lora/train/devices/software-driver.ts':
        'a missing file: no software driver; probe-process.ts also goes by processor time',
    },
  },
  rights: {
    pattern: /\bchmod|\b0o[0-7]{3}\b|\bumask\b|\bget[eug]+id\b/,
    about: 'Windows and some file systems have no rights for owner, group and others',
    files: {
      'cli/service/launchd.ts': 'a number in a file of macOS',
      'cli/service/manage.ts': MODE,
      'common/files/durable.ts': MODE,
      'common/files/file-lock.ts': MODE,
      'common/files/file-system.ts': 'ENOTSUP and ENOSYS are passed over',
      'common/files/folders.ts': MODE,
      'coordinator/webhooks/settings.ts': MODE,
      'storage/api-token.ts': MODE,
      'monitor/logs/log-file.ts': MODE,
      'net/identity.ts': MODE,
      'net/persistent-peers.ts': MODE,
      'cli/daemon/run.ts': MODE,
      'cli/folders.ts': MODE,
      'cli/commands/open.ts': MODE,
      'storage/blob-store.ts': MODE,
      'node/store/known-jobs.ts': MODE,
      'node/limits/limits.ts': MODE,
      'storage/daemon-home.ts': MODE,
      'storage/partial-blob.ts': MODE,
      'registry/folder-views.ts': MODE,
      'registry/registry.ts': MODE,
      'storage/private-home.ts': 'Windows: nothing to do; elsewhere, what cannot be changed is logged',
      'storage/database.ts': 'a failure is ignored: SQLite creates the file then',
    },
  },
  links: {
    pattern: /\b(sym)?link(Sync)?\(|\breadlink|\blstat/,
    about:
      'FAT, exFAT, Android and some network shares have no hard links; Windows asks for a privilege for symbolic ones',
    files: {
      'common/files/file-system.ts': 'copies instead, never over an existing name',
      'registry/export/record-files.ts': 'refuses links, wherever they exist',
      'storage/private-home.ts': 'passes over links, wherever they exist',
      'lora/models/hub/cache.ts': 'copies instead of a symbolic link',
    },
  },
  'free space': {
    pattern: /\bstatfs/,
    about: 'some file systems do not tell',
    files: {
      'common/files/file-system.ts': 'Infinity; a full disk is noticed when writing fails',
      'coordinator/recovery/disk-guard.ts': 'an error keeps the reserve; the transaction shows a full disk',
    },
  },
  signals: {
    pattern: /\bSIG[A-Z]{3,}\b/,
    about: 'Windows knows no signals between processes: every kill() ends the process at once',
    files: {
      'cli/install/newer-node.js':
        'Windows: kill() ends the child at once; the other signals only have a handler',
      'cli/commands/coordinator.ts': 'kills its own process, on every system',
      'cli/daemon/helper-process.ts': 'Windows: a message instead of SIGTERM',
      'cli/signals.ts':
        'handlers of signals that never come are harmless; Ctrl-C and closing a console come on Windows too',
      'cli/stop-requests.ts': 'only counts the signals that cli/signals.ts handles',
      'common/workers/child-process.ts': KILL,
      'common/workers/entry.ts': 'a handler of Ctrl-C, which Windows delivers to all processes of a console',
      'lora/data/render/template-runner.ts': KILL,
      'lora/train/devices/fallback.ts': 'Windows: exit codes as well',
      'lora/generate/generator.ts': KILL,
      'lora/train/process/supervisor.ts': KILL,
    },
  },
  processes: {
    pattern: /(?<![.#?])\bprocess\.kill\(|\bdetached\b/,
    about:
      'process groups and zombies exist on POSIX systems only; a detached process of Windows has a console of its own',
    files: {
      'cli/commands/coordinator.ts': 'kills its own process',
      'cli/daemon/helper-process.ts':
        'Windows: kills the child alone, whose trainers end with it; its console window is hidden',
      'common/files/durable.ts':
        'signal 0 asks whether a process runs, on every system; EPERM means that it does',
    },
  },
  'child processes': {
    pattern: /'(node:)?child_process'/,
    about: 'Windows starts no scripts by their #! line, and npm and npx are .cmd files there',
    files: {
      'cli/service/run-call.ts': 'programs of the system, none of which is a script on Windows',
      'cli/install/newer-node.js': 'node.exe on Windows, and a shell that starts npm',
      'lora/doctor/machine.ts': 'sysctl on macOS only; a failure means unknown',
      'cli/daemon/helper-process.ts': 'starts the running Node.js with a script',
      'cli/daemon/open-file.ts': 'programs of the system, none of which is a script on Windows',
      'common/workers/child-process.ts': 'fork: the running Node.js',
      'node/limits/machine/probe-of.ts':
        'programs of macOS and Windows, none of which is a script; a failure means unknown',
      'lora/train/memory/mac-memory.ts': 'vm_stat on macOS only; a failure means unknown',
    },
  },
  allocator: {
    pattern: /\b(GLIBC_|MALLOC_|LD_)/,
    about: 'each C library has its own settings',
    files: {
      'lora/engines/allocator.ts': 'only glibc reads the variable; elsewhere it has no effect',
      'lora/train/devices/driver-traces.ts':
        'only compares the variable; elsewhere, a stored choice is kept for a week',
    },
  },
  'folders of the user': {
    pattern: /\bhomedir\(|\bXDG_|\bAPPDATA\b|\btmpdir\(|\.HOME\b/,
    about: 'HOME is not set on Windows, and XDG folders are a custom of Linux',
    files: {
      'cli/commands/service.ts': 'homedir() without HOME, as in common/files/user-folders.ts',
      'cli/service/places.ts': 'copies variables of the shell only where they are set',
      'cli/install/newer-node.js':
        'homedir() as in common/files/user-folders.ts, whose TypeScript an old Node.js cannot run',
      'common/files/user-folders.ts': 'homedir() without HOME; the same folders below it on every system',
      'lora/models/hub/settings.ts':
        'homedir() without HOME; the folders of huggingface_hub, which has them on every system',
      'coordinator/client/bundle-job.ts': 'tmpdir() knows the folder of each system',
      'node/reader/verify-from-swarm.ts': 'tmpdir() knows the folder of each system',
      'lora/train/devices/speed.ts': 'tmpdir() knows the folder of each system',
    },
  },
  separators: {
    pattern:
      /\bsep\b(?=[\s,}]*from 'node:path')|\.split\((sep|'\/')\)|\[\\\\\/\]|`\$\{\w*([Dd]ir|[Ff]older|[Pp]ath|[Hh]ome|output)\}\/|startsWith\('\/'\)/,
    about: 'paths of Windows have backslashes and drive letters',
    files: {
      'lora/data/files.ts': 'orders matches of a pattern by their path with forward slashes',
      'lora/models/hub/reference.ts': 'the name of a branch, not a path',
      'lora/models/hub/settings.ts': 'both separators on Windows',
      'lora/models/hub/transfer.ts': 'a path of a repository, in a URL',
      'lora/train/memory/available-memory.ts': 'the path of a control group, only on Linux',
    },
  },
  'file URLs': {
    pattern: /\.pathname\b|\bfileURLToPath\(/,
    about: 'the pathname of a file URL is no path on Windows ("/C:/…"), nor where a path has spaces',
    files: {
      'cli/install/newer-node.js': 'fileURLToPath',
      'common/package.ts': FILE_URL,
      'common/workers/child-process.ts': FILE_URL,
    },
  },
  renames: {
    pattern: /(?<!\.)\brename(Sync)?\(/,
    about:
      'Windows does not rename what another process has open: call renameWithRetry of common/files/durable.ts',
    files: {
      'cli/install/newer-node.js':
        'a folder that no other process has opened; a failure prints the advice of swarm.js',
      'common/files/durable.ts': 'Windows: tries again for two seconds',
      'monitor/logs/log-file.ts':
        'a log that cannot be rotated drops lines until it can; the other outputs have them',
    },
  },
  syncs: {
    pattern: /\b(file|handle|folder)\.(data)?sync\(|\.datasync\(/,
    about: 'Windows syncs no handle for reading and no folder; some file systems sync no folder',
    files: {
      'common/files/durable.ts': `${WRITE_HANDLE}; not on folders of Windows; what cannot be synced is passed over`,
      'common/files/file-system.ts': WRITE_HANDLE,
      'coordinator/record/checkpoint-folders.ts': WRITE_HANDLE,
      'lora/data/stored-rows.ts': WRITE_HANDLE,
      'lora/models/hub/transfer.ts': WRITE_HANDLE,
      'net/identity.ts': WRITE_HANDLE,
      'storage/blob-store.ts': WRITE_HANDLE,
      'storage/partial-blob.ts': WRITE_HANDLE,
    },
  },
  'handles for appending': {
    pattern: /\b(openSync|open|createWriteStream)\([^)]*'ax?\+?'/,
    about: 'on Windows they cannot be truncated: truncate by path (github.com/nodejs/node/issues/3177)',
    files: {
      'lora/models/hub/transfer.ts': 'truncated by path',
      'monitor/logs/log-file.ts': 'never truncated',
      'storage/database.ts': 'never truncated',
    },
  },
  patterns: {
    pattern: /(?<!\.)\b(fs\.)?glob\(/,
    about:
      'backslashes are separators on Windows and escapes elsewhere; matching ignores case on Windows and macOS',
    files: { 'lora/data/files.ts': "left to Node.js' glob; a path that exists is never a pattern" },
  },
  SQLite: {
    pattern: /\bnew DatabaseSync\(/,
    about: 'file locks and shared memory need a local disk',
    files: {
      'common/files/file-lock.ts': "SQLite's lock, which each system drops when its process ends",
      'storage/database.ts': 'STORE_REFUSED where the disk has no locks or no shared memory',
    },
  },
  'numbered values of SQL': {
    pattern: /[=(,<>] \?\d/,
    about: 'node:sqlite of Node.js 22.18 cannot bind ?1: write ? and pass the value twice',
    files: {},
  },
  machine: {
    pattern: /\b(freemem|totalmem|cpus)\(\)|\bprocess\.availableMemory\(/,
    about: 'processors may be unknown (no /proc); "available" counts other pages on each system',
    files: {
      'lora/doctor/machine.ts': '"unknown" without processors',
      'lora/train/memory/available-memory.ts':
        'control groups on Linux, vm_stat on macOS, else what Node.js says',
      'lora/train/devices/choose.ts': JUST_SHOWN,
      'node/limits/machine/probe-of.ts': 'only for macOS and Windows, which know their processors',
      'node/daemon/daemon.ts': 'the memory of the machine, which every system tells',
    },
  },
  terminals: {
    pattern: /\bisTTY\b|\\u001b\[/,
    about: 'width and colours may be unknown',
    files: {
      'cli/commands/demo.ts': 'without a terminal: plain lines',
      'cli/commands/node.ts': 'without a terminal: plain lines',
      'cli/commands/top.ts': 'without a terminal: one frame of plain lines',
      'cli/top/screen.ts': 'only in a terminal; all systems know these escape sequences',
      'cli/top/keys.ts': 'keys of a terminal; all systems send these escape sequences',
      'cli/node-screen/live-area.ts': 'only in a terminal; all systems know these escape sequences',
      'cli/context.ts': '80 columns where the width is unknown; no colours with NO_COLOR or TERM=dumb',
      'cli/daemon/log.ts': 'without a terminal: JSON',
      'cli/job/wait.ts': 'without a terminal: no waiting for a person',
      'cli/signals.ts': 'a closed terminal: output is dropped until the command has stopped',
      'cli/print.ts': 'without a terminal: plain lines',
    },
  },
  locales: {
    pattern:
      /\btoLocale|\bIntl\.|\blocaleCompare\(|\bget(Hours|Minutes|Date|Day|Month|FullYear|TimezoneOffset)\(/,
    about: 'language and time zone of the user would change texts and orders',
    files: {
      'cli/options/common.ts': 'the locale is named',
      'common/text.ts': 'the locale is named',
      'node/limits/hours.ts': "the owner's hours are in the time zone of the machine",
      'lora/engines/names.ts': 'the locale is named',
      'lora/train/devices/choose.ts': 'the locale is named',
    },
  },
  'multicast DNS': {
    pattern: /@libp2p\/mdns/,
    about: 'macOS and Windows have a responder of their own on port 5353; firewalls of Windows ask first',
    files: {
      'net/libp2p/local-discovery.ts': 'one of several ways to find peers; an invite holds addresses',
    },
  },
};

/** Returns the differences between the table and the sources, each with advice. */
export function tableOffences(sources: readonly SourceFile[], features = SYSTEM_FEATURES): string[] {
  return Object.entries(features).flatMap(([name, { pattern, about, files }]) => {
    const users = sources.filter(({ text }) => pattern.test(withoutComments(text))).map(({ path }) => path);
    const unlisted = users.filter((path) => !Object.hasOwn(files, path));
    const unused = Object.keys(files).filter((path) => !users.includes(path));
    return [
      ...unlisted.map(
        (path) =>
          `${path} uses "${name}" (${pattern}): ${about}. Guard it for the other systems, add a test with that part stubbed to test/unit/house/portability.test.ts, and the file to SYSTEM_FEATURES in test/utils/source/system-features.ts`,
      ),
      ...unused.map(
        (path) =>
          `${path} no longer uses "${name}": remove it from SYSTEM_FEATURES in test/utils/source/system-features.ts`,
      ),
    ];
  });
}

/** Replaces comments by blanks. */
function withoutComments(source: string): string {
  return source.replace(
    /\/\*[\s\S]*?\*\/|\/\/[^\n]*|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"|`(?:[^`\\]|\\[\s\S])*`/g,
    (token) => (token.startsWith('/') ? token.replace(/[^\n]/g, ' ') : token),
  );
}
