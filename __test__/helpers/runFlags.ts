/**
 * Every flag of `docker run` by what it does: seen from inside of the container, in what `inspect` says afterwards, or
 * in the words of a refusal. The paths are those of cgroup v1.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';

export interface Place {
  /** Files of this run on the host. */
  dir: string;
  /** Cgroup parent that may be used. */
  cgroupParent: string;
  /** The daemon's default bridge. */
  bridge: string;
}

export interface Row {
  /** Flags that this row is about, without their dashes. */
  flags: string;
  args: (place: Place) => string[];
  /** For `sh -c` inside. */
  script: string;
  /** Standard output and error together match it. */
  shows: RegExp | ((place: Place) => RegExp);
  /** 0 unless given; several where kernels differ. */
  code?: number | number[];
  /** Go template: `inspect` of the created container instead of running it. */
  inspect?: string;
  input?: string;
  image?: 'plain' | 'rich';
  /** On the default bridge unless `args` names a network; otherwise without any. */
  net?: boolean;
}

const cgroup = (controller: string, file: string): string => `cat /sys/fs/cgroup/${controller}/${file}`;
const status = (field: string): string => `grep ^${field}: /proc/self/status`;
const namespace = (kind: string): string => `readlink /proc/self/ns/${kind}`;
const ofHost = (kind: string): RegExp => new RegExp(escaped(readlinkSync(`/proc/self/ns/${kind}`)));
const notOfHost = (kind: string): RegExp => new RegExp(`^(?!.*${escaped(readlinkSync(`/proc/self/ns/${kind}`))})`, 's');
/** What root may have here. */
const ALL_CAPABILITIES = /^CapBnd:\t(\w+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '';
const escaped = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

/** A disk of this machine, and its numbers. */
const DISK = readdirSync('/sys/block').find((name) => !/^(loop|ram|zram|sr)/.test(name)) ?? 'loop0';

const row = (flags: string, args: string[], script: string, shows: RegExp, more: Partial<Row> = {}): Row => ({
  flags,
  args: () => args,
  script,
  shows,
  ...more,
});
const refused = (flags: string, args: string[], shows: RegExp, code: number | number[] = 125): Row =>
  row(flags, args, 'echo ran', shows, { code });
const inspected = (flags: string, args: string[], inspect: string, shows: RegExp, more: Partial<Row> = {}): Row =>
  row(flags, args, 'true', shows, { inspect, ...more });
const throttled = (flag: string, file: string, value: string): Row =>
  row(flag, [`--${flag}`, `/dev/${DISK}:${value}`], cgroup('blkio', `blkio.throttle.${file}`), /\d+:\d+ 1048576/);

export const ROWS: Row[] = [
  row('add-host', ['--add-host', 'far:10.9.8.7'], 'cat /etc/hosts', /^10\.9\.8\.7\tfar$/m),
  row('add-host', ['--add-host', 'six=[fe80::1]'], 'cat /etc/hosts', /^fe80::1\tsix$/m),
  inspected('annotation', ['--annotation', 'a.b=c'], '{{json .HostConfig.Annotations}}', /^\{"a\.b":"c"\}$/m),
  row('attach', ['-a', 'stderr'], 'echo out; echo err >&2', /^err$/),
  row('attach interactive', ['-a', 'stdin', '-a', 'stdout', '-i'], 'cat; echo err >&2', /^typed$/, { input: 'typed' }),
  row(
    'blkio-weight',
    ['--blkio-weight', '300'],
    `${cgroup('blkio', 'blkio.bfq.weight')} 2>&1`,
    /\b300\b|Weight discarded|does not support Block I\/O weight/,
  ),
  row(
    'blkio-weight-device',
    ['--blkio-weight-device', `/dev/${DISK}:200`],
    `${cgroup('blkio', 'blkio.bfq.weight_device')} 2>&1`,
    /\b200\b|does not support Block I\/O weight_device|weight_device: not supported/,
    { code: [0, 125] },
  ),
  row('cap-add', ['--cap-add', 'SYS_ADMIN'], status('CapEff'), /00000000a82425fb/),
  row('cap-drop', ['--cap-drop', 'ALL', '--cap-add', 'CHOWN'], status('CapEff'), /0000000000000001/),
  row('cgroup-parent', [], 'cat /proc/self/cgroup', /./, {
    args: ({ cgroupParent }) => ['--cgroup-parent', `${cgroupParent}/inner`],
    shows: ({ cgroupParent }) => new RegExp(`memory:${cgroupParent}/inner/[0-9a-f]{64}`),
  }),
  row('cgroup-parent', [], 'cat /proc/self/cgroup', /./, {
    args: ({ cgroupParent }) => ['--cgroup-parent', `../../..${cgroupParent}/inner`],
    shows: ({ cgroupParent }) => new RegExp(`memory:${cgroupParent}/inner/[0-9a-f]{64}`),
  }),
  row('cgroupns', ['--cgroupns', 'host'], namespace('cgroup'), ofHost('cgroup')),
  row('cgroupns', ['--cgroupns', 'private'], namespace('cgroup'), notOfHost('cgroup')),
  row('cidfile', [], 'true', /^$/, { args: ({ dir }) => ['--cidfile', join(dir, `cid-${process.hrtime.bigint()}`)] }),
  ...['cpu-count', 'cpu-percent', 'io-maxiops', 'io-maxbandwidth'].map((flag) =>
    refused(
      flag,
      [`--${flag}`, '5'],
      /only supported on a Docker daemon running on windows|is not supported by caisson/,
      1,
    ),
  ),
  row(
    'cpu-period cpu-quota',
    ['--cpu-period', '50000', '--cpu-quota', '25000'],
    `${cgroup('cpu', 'cpu.cfs_period_us')} /sys/fs/cgroup/cpu/cpu.cfs_quota_us`,
    /^50000\n25000$/,
  ),
  row('cpu-rt-period', ['--cpu-rt-period', '500000'], `${cgroup('cpu', 'cpu.rt_period_us')}`, /^500000$/),
  refused('cpu-rt-runtime', ['--cpu-rt-runtime', '1000'], /cpu\.rt_runtime_us.*(invalid argument|denied)/is),
  row('cpu-shares', ['-c', '512'], cgroup('cpu', 'cpu.shares'), /^512$/),
  row('cpus', ['--cpus', '0.5'], cgroup('cpu', 'cpu.cfs_quota_us'), /^50000$/),
  refused('cpus', ['--cpus', '9999'], /range of CPUs is from 0\.01 to \d+\.00, as there are only \d+ CPUs available/),
  row('cpuset-cpus', ['--cpuset-cpus', '0'], status('Cpus_allowed_list'), /:\t0$/),
  row('cpuset-mems', ['--cpuset-mems', '0'], status('Mems_allowed_list'), /:\t0$/),
  refused('cpuset-cpus', ['--cpuset-cpus', '4000'], /Requested CPUs are not available/),
  row(
    'device',
    ['--device', '/dev/kmsg:/dev/other:w'],
    ': >>/dev/other && echo written; : </dev/other',
    /^written\n.*not permitted/s,
    { code: 1 },
  ),
  row(
    'device-cgroup-rule',
    ['--device-cgroup-rule', 'c 10:229 rw'],
    cgroup('devices', 'devices.list'),
    /^c 10:229 rw$/m,
  ),
  throttled('device-read-bps', 'read_bps_device', '1mb'),
  throttled('device-write-bps', 'write_bps_device', '1mb'),
  throttled('device-read-iops', 'read_iops_device', '1048576'),
  throttled('device-write-iops', 'write_iops_device', '1048576'),
  row('disable-content-trust', ['--disable-content-trust'], 'echo ran', /^ran$/),
  row(
    'dns dns-option dns-search',
    ['--dns', '9.8.7.6', '--dns-option', 'ndots:3', '--dns-search', 'lan'],
    'cat /etc/resolv.conf',
    /nameserver 9\.8\.7\.6\n(search lan\noptions ndots:3|options ndots:3)/,
    { net: true },
  ),
  row('dns-search', ['--dns-search', 'lan', '--dns', '9.8.7.6'], 'cat /etc/resolv.conf', /^search lan$/m, {
    net: true,
  }),
  row('domainname', ['--domainname', 'lan.test'], 'cat /proc/sys/kernel/domainname', /^lan\.test$/),
  row(
    'env',
    ['-e', 'A=b', '-e', 'NO_SUCH_VARIABLE_HERE', '-e', 'HOME'],
    'echo $A-$HOME; env | grep -c NO_SUCH',
    new RegExp(`^b-${escaped(process.env['HOME'] ?? '')}\\n0$`),
    { code: 1 },
  ),
  row('env-file', [], 'echo $ONE,$TWO', /^1,x y$/, { args: ({ dir }) => ['--env-file', join(dir, 'env')] }),
  inspected(
    'expose',
    ['--expose', '70', '--expose', '80-81/udp'],
    '{{range $p, $_ := .Config.ExposedPorts}}{{$p}} {{end}}',
    /^70\/tcp 80\/udp 81\/udp $/,
  ),
  refused('gpus', ['--gpus', 'all'], /could not select device driver|--gpus.* is not supported by caisson/),
  row('group-add', ['--group-add', '1234', '--group-add', 'audio'], 'id -G', /\b1234\b.*\b63\b|\b63\b.*\b1234\b/),
  inspected(
    'health-cmd health-interval health-retries health-start-interval health-start-period health-timeout',
    [
      '--health-cmd',
      'test -e /',
      '--health-interval',
      '1h',
      '--health-retries',
      '7',
      '--health-start-interval',
      '2s',
      '--health-start-period',
      '1m',
      '--health-timeout',
      '3s',
    ],
    '{{json .Config.Healthcheck}}',
    /^\{"Test":\["CMD-SHELL","test -e \/"\],"Interval":3600000000000,"Timeout":3000000000,"StartPeriod":60000000000,"StartInterval":2000000000,"Retries":7\}$/m,
  ),
  row('hostname', ['-h', 'called'], 'hostname; cat /etc/hostname', /^called\ncalled$/),
  row('hostname', ['-h', 'called.example'], 'cat /etc/hosts', /\tcalled\.example called$/m, {
    net: true,
    args: () => ['--network', 'bridge', '-h', 'called.example'],
  }),
  row('init', ['--init'], 'test $$ -ne 1 && ps -o pid,args | sed -n 2p', /^ *1 /),
  row('interactive', ['-i'], 'cat', /^typed$/, { input: 'typed' }),
  row(
    'ip ip6 mac-address network network-alias',
    [
      '--network',
      'flags',
      '--ip',
      '10.231.7.9',
      '--ip6',
      'fd77::9',
      '--mac-address',
      '02:42:ac:11:00:99',
      '--network-alias',
      'known',
    ],
    'ip addr show eth0; nslookup known 127.0.0.11',
    /02:42:ac:11:00:99.*10\.231\.7\.9\/24.*fd77::9\/64.*Address: 10\.231\.7\.9/s,
    { net: true },
  ),
  row('network', ['--network', 'host'], 'ls /sys/class/net', /./, {
    shows: ({ bridge }) => new RegExp(`^${bridge}$`, 'm'),
  }),
  row('network', ['--network', 'none'], 'ip -o link | wc -l', /^1$/),
  row(
    'network',
    ['--network', 'name=flags,alias=other,ip=10.231.7.8'],
    'ip addr show eth0; nslookup other 127.0.0.11',
    /10\.231\.7\.8\/24.*Address: 10\.231\.7\.8/s,
    { net: true },
  ),
  inspected(
    'link-local-ip',
    ['--network', 'flags', '--link-local-ip', '169.254.5.5'],
    '{{json .NetworkSettings.Networks.flags.IPAMConfig}}',
    /"LinkLocalIPs":\["169\.254\.5\.5"\]|--link-local-ip is not supported by caisson/,
    { net: true, code: [0, 1] },
  ),
  row('ipc', ['--ipc', 'host'], namespace('ipc'), ofHost('ipc')),
  row('ipc', ['--ipc', 'none'], 'mount | grep -c /dev/shm', /^0$/, { code: 1 }),
  refused('ipc', ['--ipc', 'container:flags-nope'], /No such container: flags-nope/i),
  row('isolation', ['--isolation', 'default'], 'echo ran', /^ran$/),
  refused('isolation', ['--isolation', 'hyperv'], /invalid isolation \(hyperv\): linux only supports 'default'/),
  row('kernel-memory', ['--kernel-memory', '64m'], 'echo ran', /ran|not supported/),
  inspected('label label-file', [], '{{index .Config.Labels "a"}} {{index .Config.Labels "from.file"}}', /^b 1$/m, {
    args: ({ dir }) => ['-l', 'a=b', '--label-file', join(dir, 'labels')],
  }),
  row('link', ['--link', 'flags-web:short'], 'cat /etc/hosts; env', /\tshort .*flags-web.*^SHORT_NAME=/ms, {
    net: true,
    args: () => ['--network', 'bridge', '--link', 'flags-web:short'],
  }),
  inspected(
    'log-driver log-opt',
    ['--log-driver', 'local', '--log-opt', 'max-size=1m'],
    '{{json .HostConfig.LogConfig}}',
    /^\{"Type":"local","Config":\{"max-size":"1m"\}\}$/m,
  ),
  refused('log-opt', ['--log-opt', 'nope=1'], /unknown log opt 'nope' for json-file log driver/),
  refused('log-driver', ['--log-driver', 'nope'], /nope/),
  row('memory', ['-m', '64m'], cgroup('memory', 'memory.limit_in_bytes'), /^67108864$/),
  row(
    'memory-reservation',
    ['-m', '64m', '--memory-reservation', '32m'],
    cgroup('memory', 'memory.soft_limit_in_bytes'),
    /^33554432$/,
  ),
  row(
    'memory-swap',
    ['-m', '64m', '--memory-swap', '96m'],
    cgroup('memory', 'memory.memsw.limit_in_bytes'),
    /^100663296$/,
  ),
  row(
    'memory-swap',
    ['-m', '64m', '--memory-swap', '-1'],
    cgroup('memory', 'memory.memsw.limit_in_bytes'),
    /^9223372036854771712$/,
  ),
  row('memory-swappiness', ['--memory-swappiness', '7'], cgroup('memory', 'memory.swappiness'), /^7$/),
  refused('memory', ['-m', '1m'], /Minimum memory limit allowed is 6MB/),
  row('mount', [], 'cat /in/file; touch /in/x', /^text\n.*Read-only/s, {
    code: 1,
    args: ({ dir }) => ['--mount', `type=bind,src=${dir},dst=/in,ro`],
  }),
  row(
    'mount',
    ['--mount', 'type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700'],
    'stat -c %a /t; df -k /t | tail -1',
    /^700\ntmpfs +1024 /,
  ),
  row(
    'mount',
    ['--mount', 'type=volume,src=flags-data,dst=/v,volume-label=k=v'],
    'touch /v/x; mount | grep -c " /v "',
    /^1$/,
  ),
  refused('mount', ['--mount', 'type=bind,src=/flags/nope,dst=/x'], /bind source path does not exist: \/flags\/nope/),
  refused('mount', ['--mount', 'type=bind,src=/tmp'], /target is required|target/),
  inspected('name', ['--name', 'flags-named'], '{{.Name}}', /^\/flags-named$/m),
  inspected('no-healthcheck', ['--no-healthcheck'], '{{json .Config.Healthcheck.Test}}', /^\["NONE"\]$/m, {
    image: 'rich',
  }),
  row(
    'oom-kill-disable',
    ['--oom-kill-disable', '-m', '64m'],
    cgroup('memory', 'memory.oom_control'),
    /^oom_kill_disable 1$/m,
  ),
  row('oom-score-adj', ['--oom-score-adj', '500'], 'cat /proc/self/oom_score_adj', /^500$/),
  row('pid', ['--pid', 'host'], namespace('pid'), ofHost('pid')),
  row('pids-limit', ['--pids-limit', '77'], cgroup('pids', 'pids.max'), /^77$/),
  row('platform', ['--platform', 'linux/amd64'], 'uname -m', /^x86_64$/),
  refused(
    'platform',
    ['--platform', 'linux/s390x', '--pull', 'never'],
    /does not match the specified platform|not supported by caisson on this machine/i,
  ),
  row(
    'privileged',
    ['--privileged'],
    `${status('CapEff')}; ls /dev/loop-control; ${status('Seccomp')}`,
    new RegExp(`CapEff:\\t${ALL_CAPABILITIES}\n/dev/loop-control\nSeccomp:\\t0`),
  ),
  refused('pull', ['--pull', 'nope'], /invalid pull option: 'nope': must be one of "always", "missing" or "never"/),
  row('quiet', ['-q', '--pull', 'missing'], 'echo ran', /^ran$/),
  row('read-only', ['--read-only', '--tmpfs', '/ok'], 'touch /ok/x && touch /x', /Read-only file system/, { code: 1 }),
  inspected(
    'restart',
    ['--restart', 'on-failure:3'],
    '{{json .HostConfig.RestartPolicy}}',
    /^\{"Name":"on-failure","MaximumRetryCount":3\}$/m,
  ),
  refused('restart', ['--restart', 'always'], /conflicting options: cannot specify both --restart and --rm/i),
  refused('runtime', ['--runtime', 'nope'], /unknown or invalid runtime name: nope/),
  row('security-opt', ['--security-opt', 'no-new-privileges'], status('NoNewPrivs'), /\t1$/),
  row('security-opt', ['--security-opt', 'seccomp=unconfined'], status('Seccomp'), /\t0$/),
  row('security-opt', [], 'chmod 700 /tmp; echo $?', /^1\n.*not permitted/s, {
    args: ({ dir }) => ['--security-opt', `seccomp=${join(dir, 'no-chmod.json')}`],
  }),
  row('shm-size', ['--shm-size', '3m'], 'df -k /dev/shm | tail -1', /^shm +3072 /),
  inspected(
    'stop-signal stop-timeout',
    ['--stop-signal', 'USR1', '--stop-timeout', '42'],
    '{{.Config.StopSignal}} {{.Config.StopTimeout}}',
    /^USR1 42$/m,
  ),
  refused('storage-opt', ['--storage-opt', 'size=1G'], /storage-opt.*(pquota|quota)/),
  row(
    'sysctl',
    ['--sysctl', 'net.ipv4.ip_unprivileged_port_start=77'],
    'cat /proc/sys/net/ipv4/ip_unprivileged_port_start',
    /^77$/,
  ),
  refused(
    'sysctl',
    ['--sysctl', 'kernel.panic=1'],
    /sysctl.*kernel\.panic.*(is not allowed|is not in a separate kernel namespace)/,
  ),
  row('tmpfs', ['--tmpfs', '/t:size=2m,noexec'], 'mount | grep " /t "; df -k /t | tail -1', /noexec.*tmpfs +2048 /s),
  row('tmpfs', ['--tmpfs', '/t:shared'], 'grep " /t " /proc/self/mountinfo', / shared:\d+ /),
  row('tty', ['-t'], 'test -t 1 && stty size && echo terminal', /terminal\r/),
  row(
    'ulimit',
    ['--ulimit', 'nofile=100:200', '--ulimit', 'core=-1'],
    'ulimit -n; ulimit -Hn; ulimit -c',
    /^100\n200\nunlimited$/,
  ),
  row('use-api-socket', ['--use-api-socket'], 'test -S /var/run/docker.sock && echo there', /^there$/),
  row('user', ['-u', '1234:567'], 'id -u; id -g', /^1234\n567$/),
  row('userns', ['--userns', 'host'], namespace('user'), ofHost('user')),
  refused('userns', ['--userns', 'nope'], /--userns: invalid USER mode/),
  row('uts', ['--uts', 'host'], namespace('uts'), ofHost('uts')),
  refused('uts', ['--uts', 'host', '-h', 'named'], /conflicting options: hostname and the UTS mode/),
  row('volume', [], 'cat /in/file; touch /in/x', /^text\n.*Read-only/s, {
    code: 1,
    args: ({ dir }) => ['-v', `${dir}:/in:ro`],
  }),
  row('volume', ['-v', 'flags-data:/v', '-v', '/anonymous'], 'mount | grep -cE " /(v|anonymous) "', /^2$/),
  inspected(
    'volume-driver',
    ['--volume-driver', 'local', '-v', 'flags-driven:/v'],
    '{{.HostConfig.VolumeDriver}} {{range .Mounts}}{{.Driver}}{{end}}',
    /^local local$/m,
  ),
  row(
    'volumes-from',
    ['--volumes-from', 'flags-web:ro'],
    'cat /shared/from-web; touch /shared/x',
    /^web\n.*Read-only/s,
    { code: 1 },
  ),
  row('workdir', ['-w', '/made/here'], 'pwd', /^\/made\/here$/),
];
