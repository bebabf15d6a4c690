#!/bin/bash
# A-SRGAN on 4 machines of 8 GPUs, 16 crops on each: sbatch docs/slurm.sh
#
# Two minutes before the time is over SLURM sends USR1, and at a preemption where the cluster has
# PreemptParameters=send_user_signal: the run saves and ends with code 75. Then the job enters the
# queue again, under its own number, and goes on. Elsewhere a preempted job gets SIGTERM, at which it
# saves, too, and SLURM itself puts it back with PreemptMode=REQUEUE.
#SBATCH --job-name=asrgan
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=6
#SBATCH --time=24:00:00
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append

# Of tasks that save and end with code 75 none may kill the others, which still write; one that is lost
# ends them all, by asrgan, or by --wait. Each start is the same command: resume=true starts what is
# not there.
srun --kill-on-bad-exit=0 --wait=120 asrgan train trainer=slurm resume=true \
  experiment="${EXPERIMENT:-asrgan_x4}" data.batch_size="${BATCH_SIZE:-512}" \
  data.train="${TRAIN:?a prepared folder}" data.validation="${VALIDATION:?a folder of photographs}" \
  output_dir="${OUTPUT_DIR:?the folder of the run}" $OVERRIDES
code=$?

case $code in
  75 | 138) exec scontrol requeue "$SLURM_JOB_ID" ;; # 138: before the first iteration
  *) exit "$code" ;;
esac
