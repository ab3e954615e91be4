#!/usr/bin/env bash
# Trains the small DCNv2 detector from scratch on blood cells, on a CPU, in ten minutes, and evaluates it. Without mimicking,
# which costs steps and gains nothing here: docs/blood-cells.md.
#
#   examples/train_bccd.sh DATA [OUTPUT]
#
# DATA holds the BCCD data set (MIT licence) in COCO's layout: train/, val/ and annotations/instances_{train,val}.json.
set -euo pipefail
data=${1:?usage: examples/train_bccd.sh DATA [OUTPUT]}
output=${2:-runs/bccd}

for split in train val; do
  tf-dcnv2 convert --images "$data/$split" --annotations "$data/annotations/instances_$split.json" \
    --output "$output/records/$split"
done

tf-dcnv2 train --preset faster_rcnn_small_dcnv2 --train "$output/records/train" --val "$output/records/val" \
  --output "$output/run" --no-mimic --max-minutes 10 --batch-size 4 --optimizer adam --schedule cosine \
  --warmup-steps 50 --vertical-flip --scale-range 0.8 1.25 --color-jitter 0.2 --cache --evaluate-every 10 --seed 1

tf-dcnv2 evaluate "$output/run" --records "$output/records/val" --annotations "$data/annotations/instances_val.json"
tf-dcnv2 predict "$output/run" --images "$data/val" --output "$output/pictures"
tf-dcnv2 export "$output/run" --output "$output/served/1" --ops portable
