/** What the client does meanwhile, as a service of its systemd: files written one after the other, each acknowledged by an fsync. */
import { CLIENT, type Machines } from './machines.js'

const UNIT = 'ringfs-test-load'
const NOTES = '/var/tmp/ringfs-test-load'
const LOAD_FOLDER = '/mnt/ringfs/load'

/**
 * Every second file is small enough to be kept in Redis, the others are chunks. A name stands in `acknowledged` only when its fsync has
 * succeeded; a call that takes ten minutes counts as one that hangs.
 */
const SCRIPT = `
mkdir -p ${LOAD_FOLDER}
for ((n = 1; ; n++)); do
  head -c $((n % 2 ? 20000 : 2000)) /dev/urandom > ${NOTES}/bytes
  timeout --signal=KILL 600 dd if=${NOTES}/bytes of=${LOAD_FOLDER}/$n bs=64K conv=fsync status=none 2> ${NOTES}/said
  status=$?
  if [ $status = 0 ]; then
    echo "$(sha256sum < ${NOTES}/bytes | cut -c 1-64)  $n" >> ${NOTES}/acknowledged
  else
    echo "$n: exit code $status: $(cat ${NOTES}/said)" >> ${NOTES}/failed
  fi
  sleep 1
done`

export class Load {
  readonly #machines: Machines

  constructor(machines: Machines) {
    this.#machines = machines
  }

  async start(): Promise<void> {
    await this.stop()
    await this.#sh(`rm -rf ${NOTES} ${LOAD_FOLDER}; mkdir -p ${NOTES}; touch ${NOTES}/acknowledged ${NOTES}/failed`)
    await this.#sh(`cat > ${NOTES}/script && systemd-run --quiet --unit=${UNIT} bash ${NOTES}/script`, SCRIPT)
  }

  async stop(): Promise<void> {
    await this.#machines.try(CLIENT, `systemctl stop ${UNIT}; systemctl reset-failed ${UNIT}`)
  }

  async acknowledged(): Promise<number> {
    return Number(await this.#sh(`wc -l < ${NOTES}/acknowledged`))
  }

  /** Calls that failed, or hung, a line each. */
  async failed(): Promise<readonly string[]> {
    return (await this.#sh(`cat ${NOTES}/failed`)).split('\n').filter((line) => line !== '')
  }

  /** What sha256sum finds wrong with what was acknowledged; '': nothing. */
  async wrong(): Promise<string> {
    const { stdout, stderr, code } = await this.#machines.try(
      CLIENT,
      `cd ${LOAD_FOLDER} && sha256sum --quiet --check ${NOTES}/acknowledged`,
    )
    return code === 0 ? '' : `${stdout}${stderr}` || `exit code ${code}`
  }

  #sh(script: string, input = ''): Promise<string> {
    return this.#machines.sh(CLIENT, script, { input })
  }
}
