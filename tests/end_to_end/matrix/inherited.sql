-- Inheritance: the child gets its parent's new column last, and first when it is created anew: the order of columns is not kept.
create table parent (a int, b text); create table child (c int) inherits (parent); alter table parent add d text default 'D';
insert into parent values (1, 'p'); insert into child values (2, 'q', 3, 'r');
create table second (e int); create table two_parents () inherits (parent, second); insert into two_parents values (1, 'two', 'd', 9);
