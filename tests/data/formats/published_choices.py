"""Data sets in small, as their publishers and programs write them: choices and questions."""

# ruff: noqa: E501 (lines as they are published)

from tests.data.formats.published import CHINESE, CHOICES, LETTERS, QUESTIONS, SQUAD_PARAGRAPH, Published, lines, whole

CHOSEN = {
    "C3": Published(
        CHOICES,
        {
            "c3-d-train.json": whole([
                [["男：你今天晚上有时间吗?", "女：有"], [{"question": "去哪儿?", "choice": ["家", "学校", "公园"], "answer": "家"}], "14-1"],
                [["女：好"], [{"question": "谁?", "choice": ["他", "她"], "answer": "她"}], "14-2"],
            ])
        },
        rows=2,
    ),
    "DREAM": Published(
        CHOICES,
        {"train.json": whole([[["W: Hello?", "M: Hi"], [{"question": "Who?", "choice": ["W", "M", "B"], "answer": "M"}], "4-1"]])},
        rows=1,
    ),
    "CommonsenseQA": Published(
        CHOICES,
        {
            "train_rand_split.jsonl": lines(
                {"answerKey": "A", "id": "075e", "question": {"question_concept": "sun", "choices": LETTERS, "stem": "Hot?"}}
            )
        },
        rows=1,
    ),
    "OpenBookQA with its facts": Published(
        CHOICES,
        {
            "train_complete.jsonl": lines(
                {"id": "7-980", "question": {"stem": "The sun is", "choices": LETTERS}, "fact1": "the sun is hot",
                 "humanScore": "1.00", "clarity": "2.00", "turkIdAnonymized": "b3", "answerKey": "B"}
            )
        },
        rows=1,
    ),
    "HellaSwag": Published(
        CHOICES,
        {
            "hellaswag_train.jsonl": lines(
                {"ind": 4, "activity_label": "Removing ice", "ctx_a": "A man writes.", "ctx_b": "then", "ctx": "A man writes. then",
                 "split": "train", "split_type": "indomain", "label": 3, "endings": ["a.", "b.", "c.", "d."],
                 "source_id": "activitynet~v_-1"}
            )
        },
        rows=1,
    ),
    "PIQA with its labels beside": Published(
        CHOICES,
        {
            "train.jsonl": lines({"goal": "Open a jar", "sol1": "Twist", "sol2": "Hit"}, {"goal": "Cut", "sol1": "a", "sol2": "b"}),
            "train-labels.lst": "0\n1\n",
        },
        rows=2,
    ),
    "WinoGrande": Published(
        CHOICES,
        {
            "train_xs.jsonl": lines(
                {"qID": "3D5-1", "sentence": "Ann met Bo because _ called.", "option1": "Ann", "option2": "Bo", "answer": "2"}
            )
        },
        rows=1,
    ),
    "COPA of SuperGLUE": Published(
        CHOICES,
        {
            "train.jsonl": lines(
                {"premise": "My body cast a shadow.", "choice1": "The sun rose.", "choice2": "The grass was cut.",
                 "question": "cause", "label": 0, "idx": 0}
            )
        },
        rows=1,
    ),
    "COPA's XML": Published(
        CHOICES,
        {
            "copa-dev.xml": '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE copa-corpus SYSTEM "copa.dtd">\n<copa-corpus version="1.0">\n'
            '<item id="1" asks-for="cause" most-plausible-alternative="1">\n<p>My body cast a shadow.</p>\n<a1>The sun rose.</a1>\n'
            "<a2>The grass was cut.</a2>\n</item>\n</copa-corpus>\n"
        },
        rows=1,
    ),
    "Social IQa with its labels beside": Published(
        CHOICES,
        {
            "train.jsonl": lines({"context": "Cam ordered.", "question": "Why?", "answerA": "a", "answerB": "b", "answerC": "c"}),
            "train-labels.lst": "3\n",
        },
        rows=1,
    ),
    "CosmosQA": Published(
        CHOICES,
        {"train.csv": 'id,context,question,answer0,answer1,answer2,answer3,label\n3Q9#a,"Good Old, War",Why?,a,b,c,d,1\n'},
        rows=1,
    ),
    "SciQ": Published(
        CHOICES,
        {
            "train.json": whole([
                {"question": "What is used?", "distractor3": "viruses", "distractor1": "protozoa", "distractor2": "gymnosperms",
                 "correct_answer": "mesophilic organisms", "support": "Mesophiles grow best."}
            ])
        },
        rows=1,
    ),
    "SWAG's full rows": Published(
        CHOICES,
        {
            "train_full.csv": ",video-id,fold-ind,startphrase,sent1,sent2,gold-source,ending0,ending1,ending2,ending3,label\n"
            "0,lsmdc0,12,The man. He,The man.,He,gold,sits.,runs.,eats.,goes.,0\n"
        },
        rows=1,
    ),
    "MMLU's tables, which have no header": Published(
        CHOICES, {"abstract_algebra_dev.csv": '"Find all c in Z_3, say.",0,1,2,3,B\nStatement 1,True,False,"True, False",No,C\n'}, rows=2
    ),
    "C-Eval": Published(
        CHOICES, {"accountant_dev.csv": "id,question,A,B,C,D,answer,explanation\n0,下列各项中,甲,乙,丙,丁,A,因为\n"}, rows=1
    ),
    "MedQA": Published(
        CHOICES,
        {
            "train.jsonl": lines(
                {"question": "A man.", "answer": "x", "options": {"A": "x", "B": "y"}, "meta_info": "step1", "answer_idx": "A"}
            )
        },
        rows=1,
    ),
    "RACE": Published(
        CHOICES,
        {
            "high1.json": lines(
                {"answers": ["C", "A"], "options": [["a", "b", "c", "d"], ["e", "f", "g", "h"]], "questions": ["Why?", "It is _ ."],
                 "article": "Last week I talked.", "id": "high1.txt"}
            )
        },
        rows=2,
    ),
}  # fmt: skip

ASKED = {
    "SQuAD 2.0": Published(
        QUESTIONS,
        {
            "train-v2.0.json": whole({
                "version": "v2.0",
                "data": [{"title": "Rome", "paragraphs": [{
                    "context": "Ann met Bo in Rome.",
                    "qas": [
                        {"id": "1", "question": "Whom?", "answers": [{"text": "Bo", "answer_start": 8}], "is_impossible": False},
                        {"id": "2", "question": "When?", "answers": [], "is_impossible": True,
                         "plausible_answers": [{"text": "Rome", "answer_start": 14}]},
                    ],
                }]}],
            })
        },
        rows=2,
    ),
    "DRCD's original": Published(
        QUESTIONS,
        {
            "DRCD_training.json": whole({
                "version": "1.3",
                "data": [{"title": "梵語", "id": "1147", "paragraphs": [{
                    "context": CHINESE, "id": "1147-5",
                    "qas": [
                        {"question": "在古代，梵語主要怎樣使用？", "id": "1147-5-1",
                         "answers": [{"text": "口頭使用", "id": "1", "answer_start": 6}]},
                        {"question": "維持什麼傳統？", "id": "1147-5-2",
                         "answers": [{"text": "口頭", "id": "1", "answer_start": 28}, {"text": "口頭傳統", "id": "2", "answer_start": 28}]},
                    ],
                }]}],
            })
        },
        rows=2,
    ),
    "CMRC 2018's original": Published(
        QUESTIONS,
        {
            "cmrc2018_trial.json": whole([
                {
                    "context_id": "TRIAL_0", "context_text": CHINESE, "title": "梵語",
                    "qas": [{"query_id": "TRIAL_0_QUERY_0", "query_text": "怎樣使用？", "answers": ["口頭使用", "口頭使用"]}],
                }
            ])
        },
        rows=1,
    ),
    "CMRC 2018 in SQuAD's form": Published(
        QUESTIONS,
        {
            "cmrc2018_train.json": whole({
                "version": "v1.0",
                "data": [{"title": "梵語", "id": "TRAIN_186", "paragraphs": [{
                    "id": "TRAIN_186", "context": CHINESE,
                    "qas": [{"question": "怎樣使用？", "id": "TRAIN_186_QUERY_0",
                             "answers": [{"text": "口頭使用", "answer_start": 6}]}],
                }]}],
            })
        },
        rows=1,
    ),
    "SQuAD-like rows, some with wrong offsets": Published(
        QUESTIONS,
        {
            "train.json": whole({"data": [{"title": "a", "paragraphs": [
                SQUAD_PARAGRAPH,
                {**SQUAD_PARAGRAPH, "qas": [{"id": "9", "question": "Whom?", "answers": [{"text": "Bo", "answer_start": 2}]}]},
            ]}]})
        },
        rows=1,
        options=["--skip-bad"],
    ),
}  # fmt: skip
