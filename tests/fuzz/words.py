"""Options of the commands, values that fit them, and values that do not."""

listed = str.split

NUMBERS = listed("""
    0 1 2 3 7 -1 -0 1e3 1e400 nan inf -inf 2.5 0x10 99999999999999999999 2147483648 1_0 1,5 +3
    --3 1e-320 \u0663 \uff11\uff12
""")
WORDS = listed("""
    é हिन्दी ~ * $(id) %s%n {} [] None True - -- = a=b ../.. .. . / NaN null 💥
""")
WORDS += ["", " ", "3 ", "\u202egpj", "a\x1b[31mb", "a\nb", "a\tb", "\udcff", "\x07", "a\0b", "\0"]
WORDS += ["\x7f", "\u2028", "\ufeff", "x" * 300, "x/" * 3000]
MESHES = listed("""
    data=1 data=-1,tensor=2 data=0 dta=8 data=2,data=2 fsdp=99999999999999999999 data= seed=2
    data=-2 tensor=3 = , data=1, data=1;fsdp=1 data=\u0661 data=--1 context=1,seed=1 data=1e1
    tensor=-1,data=-1 data=\u00b2
""")
PLACES = listed("""
    file void empty foreign damaged loop gone pipe run null list /dev/null /dev/zero cut index
    /proc/self/mem /proc/self/fd big.safetensors deep settings more out/of/nowhere
""")
PLACES += ["names\x1b[2Jhere"]
ODD = [NUMBERS, WORDS, MESHES, PLACES]

RUN = listed("""
    --steps --batch-size --checkpoint-every --data.texts-per-image --data.noise --data.seed
    --data.image-size --data.source --data.tasks --data.features --data.directory
    --data.image-feature --data.flip --data.images --data.evaluation-images --model.width
    --model.heads --model.layers --model.dropout --model.latents --model.image-encoder
    --model.contexts --model.preset --optimizer.learning-rate --optimizer.warmup
    --optimizer.weight-decay --optimizer.clip
""")
JOBS = listed("""
    --launcher --seeds-per-job --cpus --memory --gpus --minutes --partition --slurm --mesh
    --accumulate --distributed --variants --seeds --quick --sweep --out --dry-run
""")
PLAN = listed("--topology --mesh --sweep --variant --out")
BENCH = listed("""
    --dtype --threads --device --seconds --repeats --seed --out --shapes --pass --peers
    --implementation --steps --shape --sizes
""")
EVALUATE = listed("--on --variant --seed --out --features --mesh")
IMPORT = listed("--preset --prefix")
EVERY = [*RUN, *JOBS, *PLAN, *BENCH, *EVALUATE, *IMPORT, "--nothing", "-x", "--help", "-h", "--"]
NAMES = ["out", "file", "foreign", "empty", "loop", "a/b/c", "x" * 300, "\udcff", "a\x1b[31mb"]
# Values that an option takes, so that some lines go further.
FITTING = {
    "--data.source": ["scenes", "easy_vqa", "tfds", "folder"],
    "--data.tasks": ["question", "caption", "refer", "question caption"],
    "--data.directory": PLACES,
    "--data.features": PLACES,
    "--data.images": ["100", "200", "101", "0"],
    "--data.evaluation-images": ["100", "0", "7"],
    "--model.image-encoder": ["oracle", "patches", "window", "features", "conv"],
    "--model.contexts": ["image", "boxes", "image boxes", "image image"],
    "--model.preset": ["blind", "flamingo", "meter"],
    "--launcher": ["here", "processes", "slurm"],
    "--slurm": ["account=a", "a=b c=d", "A=b", "=", "a="],
    "--distributed": ["", "here 2 0", "127.0.0.1:0 2 0", "[::1 1 0", "host:99999 1 0", "a:1 2 2"],
    "--mesh": MESHES,
    "--topology": ["v5e:2x4", "v5e:1x1", "v5p:2x2x2", "v5e:0x1", "v5e", ":", "v5e:2x2 v5e:4x4"],
    "--sweep": ["meshes", ""],
    "--variant": ["blind", "blnd"],
    "--variants": ["blind", "blind blnd", ""],
    "--shapes": ["decode", "1,2,3,1,2", "1,2,3", "1,2,0,1,2", ",".join(["9" * 20] * 5)],
    "--shape": ["1,2,3,1,2", "x"],
    "--threads": ["1", "1 1", "0", "4096"],
    "--peers": ["jax.nn", "torch", "tourch", ""],
    "--implementation": ["reference", "fast"],
    "--pass": ["forward", "both", "sideways"],
    "--device": ["cpu", "tpu", "abacus"],
    "--preset": ["t5", "blip_decoder", "flamingo", "t6"],
    "--prefix": ["a.", "{i}", "{i}{i}", "{", "}", "{j}", "{0}", "{i!r}", "{i:99999999d}"],
    "--on": ["iid", "pars"],
    "--out": [
        "out",
        "file",
        "foreign",
        "empty",
        "loop",
        "a/b/c",
        "x" * 300,
        "\udcff",
        "a\x1b[31mb",
    ],
}
