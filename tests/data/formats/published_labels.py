"""Data sets in small, as their publishers and programs write them: labels and tags."""

# ruff: noqa: E501 (lines as they are published)

from tests.data.formats.published import (
    HASHES,
    SNLI,
    SPAN,
    TAGS,
    TEXT,
    TOKENS,
    Published,
    chosen,
    columns,
    lines,
    marked,
    studio,
    whole,
)

LABELS = {
    "SNLI's JSON lines, with rows that annotators did not agree on": Published(
        TEXT,
        {
            "snli_1.0_train.jsonl": lines(
                *(
                    {**SNLI, "gold_label": label, "sentence1": "A man sits.", "sentence2": f"He is {i}."}
                    for i, label in enumerate(["neutral", "entailment", "-", "contradiction"])
                )
            )
        },
        rows=3,
        options=["--label-column", "gold_label"],
    ),
    "OCNLI's": Published(
        TEXT,
        {
            "train.50k.json": lines(
                {"level": "medium", "sentence1": "身上裹一件工厂发的棉大衣", "sentence2": "身上至少一件衣服",
                 "label": "entailment", "label0": "entailment", "genre": "lit", "prem_id": "lit_635", "id": 0},
                {"level": "hard", "sentence1": "是的", "sentence2": "不是", "label": "-", "label0": "neutral",
                 "genre": "lit", "prem_id": "lit_636", "id": 1},
                {"level": "easy", "sentence1": "他来了", "sentence2": "他没来", "label": "contradiction",
                 "label0": "contradiction", "genre": "tv", "prem_id": "tv_1", "id": 2},
            )
        },
        rows=2,
    ),
    "TNEWS's": Published(
        TEXT,
        {
            "train.json": lines(
                {"label": "108", "label_desc": "news_edu", "sentence": "上课时学生手机响个不停", "keywords": ""},
                {"label": "104", "label_desc": "news_finance", "sentence": "股票中的突破形态", "keywords": "股票"},
            )
        },
        rows=2,
        options=["--label-column", "label"],
    ),
    "AFQMC's": Published(
        TEXT,
        {
            "train.json": lines(
                {"sentence1": "花呗怎么还", "sentence2": "怎么还花呗", "label": "1"},
                {"sentence1": "借呗利息", "sentence2": "借呗在哪", "label": "0"},
            )
        },
        rows=2,
    ),
    "SMS Spam's collection, without a header": Published(
        TEXT,
        {"SMSSpamCollection": "ham\tGo until jurong point, crazy..\nspam\tFree entry in 2 a wkly comp\nham\tU dun say so\n"},
        rows=3,
        options=["--text-column", "1", "--label-column", "0"],
    ),
    "AG News, quoted, without a header": Published(
        TEXT,
        {"train.csv": '"3","Wall St. Bears","Short-sellers, ""ultra-cynics"""\n"4","Chips","A new chip"\n"3","Oil","Up"\n'},
        rows=3,
        options=["--no-header", "--text-column", "2", "--label-column", "0"],
    ),
    "Jigsaw's table of indicators, with lines in quotes": Published(
        "multi-label-classification",
        {
            "train.csv": '"id","comment_text","toxic","severe_toxic","obscene"\n"00a","Explanation\nWhy, ""hi""?",0,0,0\n'
            '"00b","You","1",0,"1"\n"00c","Fine",0,1,0\n'
        },
        rows=3,
        options=["--text-column", "comment_text", "--label-columns", "toxic", "severe_toxic", "obscene"],
    ),
    "a .tsv that a spreadsheet has quoted": Published(
        TEXT, {"train.tsv": 'text\tlabel\n"a ""good"" film\twith tab"\tpos\n"bad\nlines"\tneg\n'}, rows=2
    ),
    "fastText's lines, several labels": Published(
        "multi-label-classification",
        {"cooking.train": "__label__sauce __label__cheese How much does it cost\n__label__food-safety Danger of milk\n"},
        rows=2,
    ),
    "fastText's lines": Published(TEXT, {"dbpedia.train": "__label__1 , e d audio\n__label__2 , a school\n"}, rows=2),
    "IMDb's folders beside files of other kinds": Published(
        TEXT,
        {
            "train/pos/0_9.txt": "Bromwell High is<br />good.",
            "train/pos/1_7.txt": "Fine.",
            "train/neg/0_3.txt": "Story of a man.",
            "train/unsup/0_0.txt": "Not labelled.",
        },
        rows=3,
        train=["train"],
    ),
    "20 Newsgroups' folders of files without an ending": Published(
        TEXT,
        {"20news/sci.space/60794": "From: a@b\nSubject: Moon\n\nText", "20news/rec.autos/101551": "Subject: Car\n\nNew"},
        rows=2,
        train=["20news"],
    ),
    "Label Studio's choices": Published(
        TEXT,
        {
            "project-1.json": whole([
                studio([chosen("Positive")], "good film", drafts=[], predictions=[], meta={}, file_upload="a.csv"),
                studio([chosen("Negative")], "bad film"),
                studio([], "skipped"),
            ])
        },
        rows=2,
    ),
    "Label Studio's JSON-MIN": Published(
        TEXT,
        {
            "min.json": whole([
                {"text": "good", "id": 1, "sentiment": "Positive", "annotator": 1, "annotation_id": 1, "lead_time": 2.1},
                {"text": "bad", "id": 2, "sentiment": "Negative", "annotator": 1, "annotation_id": 2, "lead_time": 1.0},
            ])
        },
        rows=2,
        options=["--label-column", "sentiment"],
    ),
    "Prodigy's choice": Published(
        TEXT,
        {
            "choice.jsonl": lines(
                *(
                    {"text": f"text {i}", "options": [{"id": "POS", "text": "pos"}, {"id": "NEG", "text": "neg"}],
                     "accept": [label], "answer": answer, **HASHES}
                    for i, (label, answer) in enumerate([("POS", "accept"), ("NEG", "accept"), ("NEG", "ignore")])
                )
            )
        },
        rows=2,
    ),
    "doccano's text classification, old and new key": Published(
        TEXT,
        {"all.jsonl": lines({"id": 1, "text": "good", "label": ["pos"]}, {"id": 2, "text": "bad", "label": ["neg"]})},
        rows=2,
    ),
    "doccano's labels": Published(
        TEXT, {"all.jsonl": lines({"id": 1, "text": "a", "labels": ["x"]}, {"id": 2, "text": "b", "labels": ["y"]})}, rows=2
    ),
    "rows in an array, several files": Published(
        TEXT,
        {"a.json": whole([{"text": "a", "label": "x"}]), "b.json": whole([{"text": "b", "label": "y"}])},
        rows=2,
        train=["a.json", "b.json"],
    ),
    "a folder of tables": Published(
        TEXT,
        {"parts/1.csv": "text,label\na,x\n", "parts/2.csv": "text,label\nb,y\nc,x\n"},
        rows=3,
        train=["parts"],
    ),
}  # fmt: skip

TAGGED = {
    "columns with the index first": Published(
        TAGS, {"train.txt": columns("1 EU B-ORG", "2 said O", "", "1 Bo B-PER", "2 left O")}, rows=2
    ),
    "CoNLL-2003's columns": Published(
        TAGS,
        {"eng.train": "-DOCSTART- -X- -X- O\n\nEU NNP B-NP B-ORG\nsaid VBD B-VP O\n\nBo NNP B-NP B-PER\nleft VBD B-VP O\n"},
        rows=2,
    ),
    "brat's folder": Published(
        TAGS,
        {
            "brat/a.txt": "EU said so.\nBo left.",
            "brat/a.ann": "T1\tORG 0 2\tEU\nT2\tPER 12 14\tBo\n#1\tAnnotatorNotes T1\tsure\nE1\tSay:T1\n",
            "brat/annotation.conf": "[entities]\nORG\nPER\n",
            "brat/b.txt": "None here.",
            "brat/b.ann": "",
        },
        rows=2,
        train=["brat"],
    ),
    "WebAnno's TSV": Published(
        TAGS,
        {
            "a.tsv": "#FORMAT=WebAnno TSV 3.3\n#T_SP=de.tudarmstadt.ukp.dkpro.core.api.ner.type.NamedEntity|identifier|value\n"
            "\n\n#Text=EU said so.\n1-1\t0-2\tEU\t*\tORG\t\n1-2\t3-7\tsaid\t_\t_\t\n1-3\t8-10\tso\t_\t_\t\n\n"
            "#Text=Bo left.\n2-1\t12-14\tBo\t*[1]\tPER[1]\t\n2-2\t15-19\tleft\t*[1]\tPER[1]\t\n"
        },
        rows=2,
    ),
    "Kaggle's entity corpus, a word a row": Published(
        TAGS,
        {
            "ner_dataset.csv": 'Sentence #,Word,POS,Tag\nSentence: 1,"""",``,O\n,London,NNP,B-geo\n,\u201cso\u201d,NN,O\n'
            "Sentence: 2,Iran,NNP,B-geo\n,left,VBD,O\n"
        },
        rows=2,
    ),
    "CoNLL-U with entities in MISC": Published(
        TAGS,
        {
            "train.conllu": "# newdoc id = a\n# sent_id = 1\n# text = EU said\n1\tEU\tEU\tPROPN\tNNP\tNumber=Sing\t2\tnsubj\t_\tNER=B-ORG\n"
            "2\tsaid\tsay\tVERB\tVBD\t_\t0\troot\t_\tSpaceAfter=No\n2.1\tso\tso\t_\t_\t_\t_\t_\t_\t_\n\n"
        },
        rows=1,
    ),
    "GermEval 2014": Published(
        TAGS,
        {"NER-de-train.tsv": "#\thttp://de.wikipedia.org/wiki/Manfred_Korfmann [2009-10-17]\n1\tAufgrund\tO\tO\n2\tEU\tB-ORG\tO\n\n"
         "#\thttp://b.de [2010-01-01]\n1\tBo\tB-PER\tO\n"},
        rows=2,
    ),
    "WikiANN's columns": Published(
        TAGS, {"train": "en:EU\tB-ORG\nen:said\tO\n\nen:Bo\tB-PER\nen:left\tO\n\n"}, rows=2
    ),
    "WikiANN as datasets has it": Published(
        TAGS,
        {
            "train.jsonl": lines(
                {"tokens": ["EU", "said"], "ner_tags": [3, 0], "langs": ["en", "en"], "spans": ["ORG: EU"]},
                {"tokens": ["Bo"], "ner_tags": [1], "langs": ["en"], "spans": ["PER: Bo"]},
            )
        },
        rows=2,
        options=["--tag-names", "O", "B-PER", "I-PER", "B-ORG", "I-ORG", "B-LOC", "I-LOC"],
    ),
    "a sentence a line with slashes": Published(TAGS, {"train.txt": "EU/B-ORG said/O so/O\nBo/B-PER left/O\n"}, rows=2),
    "WikiNER's words with their parts of speech": Published(
        TAGS, {"aij-wikiner-en-wp2": "EU|NNP|I-ORG said|VBD|O .|.|O\n\nBo|NNP|I-PER left|VBD|O\n"}, rows=2
    ),
    "CLUENER2020": Published(
        TAGS,
        {
            "train.json": lines(
                {"text": "浙商银行企业信贷部叶老桂博士", "label": {"name": {"叶老桂": [[9, 11]]}, "company": {"浙商银行": [[0, 3]]}}},
                {"text": "生生不息", "label": {}},
            )
        },
        rows=2,
    ),
    "Prodigy's ner.manual, rows without spans and rejected ones": Published(
        TAGS,
        {
            "ner.jsonl": lines(
                {"text": "EU said", "tokens": TOKENS, "spans": [SPAN], "answer": "accept", **HASHES},
                {"text": "EU said", "tokens": TOKENS, "answer": "accept", **HASHES},
                {"text": "EU said", "tokens": TOKENS, "spans": [SPAN], "answer": "reject", **HASHES},
            )
        },
        rows=2,
    ),
    "doccano's sequence labelling": Published(
        TAGS, {"all.jsonl": lines({"id": 1, "text": "EU said", "label": [[0, 2, "ORG"]]}, {"id": 2, "text": "x", "label": []})}, rows=2
    ),
    "doccano's entities with relations": Published(
        TAGS,
        {
            "all.jsonl": lines(
                {"id": 1, "text": "EU said", "entities": [{"id": 5, "label": "ORG", "start_offset": 0, "end_offset": 2}],
                 "relations": [], "Comments": []},
                {"id": 2, "text": "nothing", "entities": [], "relations": [], "Comments": []},
            )
        },
        rows=2,
    ),
    "Label Studio's spans": Published(
        TAGS,
        {"project.json": whole([studio([marked(0, 2, "EU", "ORG")], "EU said so"), studio([], "nothing here")])},
        rows=2,
    ),
    "a table of sentences and tags": Published(
        TAGS, {"train.csv": "sentence,tags\nEU said so,B-ORG O O\nBo left,B-PER O\n"}, rows=2
    ),
}  # fmt: skip
